"""Serving: the caches of many users, stored at a precision, joined into batches, evicted by bytes, kept on disk; and the best items."""

from persrec.serving.precision import PackedCache, pack
from persrec.serving.recommend import recommend
from persrec.serving.store import CacheStore, User

__all__ = ["CacheStore", "PackedCache", "User", "pack", "recommend"]
