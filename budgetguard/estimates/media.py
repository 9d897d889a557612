"""Images, sound, films and files in a request: what they are, and what they cost in tokens.

What is known of a file that is not an image is the length of its data, and of one that is only named not even that.
The figures below stand for them; they are guesses on the high side, no bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple

from budgetguard.estimates.images import UNKNOWN_SIDE, image_rule
from budgetguard.estimates.pixels import pixels

Sort = Literal["image", "audio", "video", "file"]

_TYPES: Mapping[str, Sort] = {
    "image": "image", "image_url": "image", "input_image": "image", "audio": "audio", "input_audio": "audio",
    "audio_url": "audio", "video": "video", "input_video": "video", "video_url": "video", "file": "file",
    "input_file": "file", "document": "file", "document_url": "file", "image_generation_call": "image",
}  # fmt: skip
"""By `type`, as in OpenAI's, Anthropic's, Mistral's and Cohere's parts of a message."""
_KEYS: Mapping[str, Sort] = {
    "inlineData": "file", "inline_data": "file", "fileData": "file", "file_data": "file", "image": "image",
    "document": "file", "video": "video", "audio": "audio",
}  # fmt: skip
"""By the only key of a part, as in Gemini's and Bedrock's; the media type tells more."""
_ONLY_KEYS = frozenset(_KEYS)
_DATA_KEYS = frozenset(("data", "bytes", "file_data", "result"))
_MIME_KEYS = frozenset(("mimeType", "mime_type", "media_type", "format"))

# Sound is 32 tokens a second and film 263 (https://ai.google.dev/gemini-api/docs/tokens); OpenAI's sound is 10.
# 4 KB of base64 are a second of speech at 24 kbit/s; 100 KB a second of film at 600 kbit/s.
_AUDIO_CHARS_PER_SECOND, _AUDIO_TOKENS_PER_SECOND = 4_000, 32
_VIDEO_CHARS_PER_SECOND, _VIDEO_TOKENS_PER_SECOND = 100_000, 263
# Anthropic: 1,500 to 3,000 tokens a page and its image (https://platform.claude.com/docs/en/build-with-claude/
# pdf-support), 2,100 to 2,500 measured; Gemini 258 to 560. A page of text is about 10 KB of base64.
_PAGE_CHARS, _PAGE_TOKENS, _MOST_PAGES = 10_000, 3_000, 600
NAMED_TOKENS: Mapping[Sort, int] = {"audio": 20_000, "video": 80_000, "file": 30_000}
"""Of what is only named: ten minutes of sound, five of film, ten pages."""


class Medium(NamedTuple):
    """One image or file: its data in base64 ("" if it is only named), its media type, and the detail asked for."""

    sort: Sort
    data: str = ""
    mime: str = ""
    detail: str = "auto"

    def tokens(self, family: str, model: str) -> int:
        """What it costs with this model, by its plain name."""
        mime, length = self.mime, len(self.data)
        if self.sort == "image" or mime.startswith("image/"):
            width, height = pixels(self.data) or (UNKNOWN_SIDE, UNKNOWN_SIDE)
            return image_rule(family, model)(width, height, self.detail)
        sort: Sort = next((sort for sort in ("audio", "video") if mime.startswith(sort)), self.sort)
        if not length:
            return NAMED_TOKENS[sort]
        if sort == "audio":
            return -(-length // _AUDIO_CHARS_PER_SECOND) * _AUDIO_TOKENS_PER_SECOND
        if sort == "video":
            return -(-length // _VIDEO_CHARS_PER_SECOND) * _VIDEO_TOKENS_PER_SECOND
        if mime.startswith("text/"):
            return length * 3 // 4
        return min(_MOST_PAGES, -(-length // _PAGE_CHARS)) * _PAGE_TOKENS


def medium_of(part: Mapping[str, Any]) -> Medium | None:
    """The medium that a part of a message is; None if it is none, or its content is plain text."""
    kind = part.get("type")
    sort = _TYPES.get(kind) if isinstance(kind, str) else None
    if kind == "document" and "document" in part:  # Cohere's, which are texts
        return None
    if sort is None:
        if _ONLY_KEYS.isdisjoint(part):
            return None
        sort = next((_KEYS[key] for key in _KEYS if isinstance(part.get(key), dict)), None)
    if sort is None:
        return None
    data, mime, detail = "", "", "auto"
    tables = [part]
    for _ in range(6):
        if not tables:
            break
        # More keys than a part can have are an attack on the time this takes.
        for key, value in islice(tables.pop().items(), 32):
            if isinstance(value, dict):
                if value.get("type") in ("text", "content"):
                    return None
                tables.append(value)
            elif not isinstance(value, str):
                continue
            elif value.startswith("data:"):
                mime, data = _data_uri(value)
            elif key in _DATA_KEYS:
                data = value
            elif key in _MIME_KEYS:
                mime = mime or value[:100].lower()
            elif key in ("detail", "level", "resolution"):
                detail = value[:100].lower()
    return Medium(sort, data, mime, detail)


def _data_uri(text: str) -> tuple[str, str]:
    """The media type and the data of `data:image/png;base64,...` (RFC 2397)."""
    end = text.find(",", 0, 500)
    return text[5 : max(5, end)].split(";")[0].lower(), text[end + 1 :]


def of_data_uri(text: str) -> Medium:
    """What a text is that is itself a data URI."""
    mime, data = _data_uri(text)
    return Medium("file", data, mime)
