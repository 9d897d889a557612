"""What tells that two requests ask the same: a keyed hash of what the model reads, from which no text comes back."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Mapping
from typing import Any

from budgetguard.estimates.reading import read

_HEX_DIGITS = 32


def prompt_hash(key: str, body: Mapping[str, Any], content: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) of the texts and media of a request, 32 hex digits of it; "" where it has none.

    Texts are in Unicode's form C, runs of white space one space. Model, settings and the JSON's layout do not count.

    Args:
        body: the request's JSON.
        content: the same as it is sent: hashed as it is where it is too much to look at, or only names what is read.
    """
    found = read(body, len(content))
    parts = [_normal(text) for text in found.texts] + [medium.data for medium in found.media]
    if not parts and not found.token_ids:
        return ""
    is_told = found.is_whole and not found.token_ids and all(medium.data for medium in found.media)
    text = "\n".join(parts).encode("utf-8", "surrogatepass") if is_told else content
    return hmac.new(key.encode(), text, "sha256").hexdigest()[:_HEX_DIGITS]


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
