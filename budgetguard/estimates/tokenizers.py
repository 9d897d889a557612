"""OpenAI's tokenizers, where somebody has installed them and their files are at hand: nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

Counter = Callable[[str], int]

# Where tiktoken takes each encoding from, and the SHA-256 that it asks of the file (tiktoken_ext/openai_public.py).
_BLOBS = "https://openaipublic.blob.core.windows.net/encodings/"
_SHA256: Mapping[str, str] = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}


@cache
def counter(encoding: str) -> Counter | None:
    """What counts the tokens of a text in "o200k_base" or "cl100k_base"; None where nothing at hand does.

    The first call loads it, which takes from 0.1 to 0.6 s.
    """
    return _rs_bpe(encoding) or _tiktoken(encoding)


def _rs_bpe(encoding: str) -> Counter | None:
    try:
        from rs_bpe.bpe import openai
    except ImportError:
        return None
    count: Counter = (openai.o200k_base() if encoding == "o200k_base" else openai.cl100k_base()).count
    return count


def _tiktoken(encoding: str) -> Counter | None:
    try:
        import tiktoken
    except ImportError:
        return None
    if not _is_cached(encoding):
        return None
    encode = tiktoken.get_encoding(encoding).encode_ordinary
    return lambda text: len(encode(text))


def _is_cached(encoding: str) -> bool:
    """Whether tiktoken has the right file of an encoding: it would fetch one that is missing or damaged."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":
        return False
    name = hashlib.sha1(f"{_BLOBS}{encoding}.tiktoken".encode(), usedforsecurity=False).hexdigest()
    file = Path(folder or os.path.join(tempfile.gettempdir(), "data-gym-cache")) / name
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == _SHA256[encoding]
    except OSError:
        return False
