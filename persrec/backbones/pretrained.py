"""Where a pretrained Llama lies: a folder of one's own, or a model of the Hugging Face hub. Nothing is downloaded unasked."""

from pathlib import Path

FILES = ("*.json", "*.safetensors", "tokenizer.model")  # weights without pickles


def model_folder(source: str | Path, *, download: bool = False, cache_dir: Path | None = None) -> Path:
    """The local folder of a model of Hugging Face's form.

    Args:
        source: a folder, or a model's name on the hub, as ``owner/name``.
        download: fetches a named model that is not in the local cache; else the network is left alone.
        cache_dir: the hub's cache; None is its own place.

    Raises:
        ValueError: ``source`` is neither a folder nor a name whose model is in the cache.
    """
    if Path(source).is_dir():
        return Path(source)
    # imported here, as transformers is: most runs do without it
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        folder = snapshot_download(str(source), allow_patterns=list(FILES), local_files_only=not download, cache_dir=cache_dir)
    except Exception as error:  # a name that is none, a cache without it, a hub that does not answer
        hint = "" if download else " with download=True it is fetched"
        raise ValueError(
            f"weights: {str(source)!r} is no folder, and no model of that name is at hand;{hint or ' the hub did not give it'}"
        ) from error
    return Path(folder)
