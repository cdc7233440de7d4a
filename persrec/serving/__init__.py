"""Serving: the caches of many users, stored at a precision, joined into batches, evicted by bytes, kept on disk."""

from persrec.serving.precision import CACHE_DTYPES, PackedCache, pack
from persrec.serving.store import CacheStore, User

__all__ = ["CACHE_DTYPES", "CacheStore", "PackedCache", "User", "pack"]
