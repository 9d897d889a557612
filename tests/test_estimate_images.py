"""What media cost, against the examples that the makers of models document, reckoned by hand."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from budgetguard.estimate import EstimateSettings, estimate
from budgetguard.wire.apis import Api

BYTES = EstimateSettings(tokenizer="bytes")
OPENAI, CLAUDE, GEMINI = Api("chat", "openai"), Api("messages", "anthropic"), Api("generateContent", "gemini")


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(head + bytes(40)).decode()


def jpeg(width: int, height: int, metadata: int = 60_000) -> str:
    exif = b"\xff\xe1" + struct.pack(">H", metadata + 2) + bytes(metadata)
    frame = b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width)
    return base64.b64encode(b"\xff\xd8" + exif + frame + bytes(40)).decode()


def gif(width: int, height: int) -> str:
    return base64.b64encode(b"GIF89a" + struct.pack("<HH", width, height) + bytes(40)).decode()


def webp(width: int, height: int, kind: bytes) -> str:
    if kind == b"VP8 ":
        rest = bytes(10) + struct.pack("<HH", width, height)
    elif kind == b"VP8L":
        rest = bytes(4) + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        rest = bytes(8) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return base64.b64encode(b"RIFF" + bytes(4) + b"WEBP" + kind + rest + bytes(40)).decode()


def tokens_of(api: Api, model: str, part: Any) -> int:
    """What a part adds to a request that is otherwise the same; lists of parts are the messages' of each API."""

    def body(parts: list[Any]) -> dict[str, Any]:
        if api.kind == "generateContent":
            return {"model": model, "contents": [{"role": "user", "parts": parts}]}
        return {"model": model, "messages": [{"role": "user", "content": parts}]}

    with_it, without = (estimate(api, body(parts), 0, BYTES) for parts in ([part], []))
    return with_it.usage.input_tokens - without.usage.input_tokens


def openai(data: str, detail: str = "auto") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}", "detail": detail}}


def claude(data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def gemini(data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": data}}


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1_024, 1_024), "high", 765),  # OpenAI's own example: 768 x 768, 4 tiles
        ("gpt-4o", (2_048, 4_096), "high", 1_105),  # and: 768 x 1536, 6 tiles
        ("gpt-4o", (4_096, 8_192), "low", 85),  # and
        ("gpt-4o", (512, 512), "auto", 255),
        ("gpt-4o-mini", (1_024, 1_024), "high", 2_833 + 4 * 5_667),
        ("gpt-5", (1_024, 1_024), "high", 70 + 4 * 140),
        ("o3", (1_024, 1_024), "high", 75 + 4 * 150),
        ("ft:gpt-4o-2024-08-06:acme::x", (512, 512), "auto", 255),
        ("gpt-4.1-mini", (1_024, 1_024), "high", 1_659),  # 32 x 32 patches x 1.62
        ("gpt-4.1-mini", (1_800, 2_400), "high", 2_353),  # OpenAI's own example of 1,452 patches
        ("o4-mini", (1_024, 1_024), "high", 1_762),
        ("gpt-5-nano", (64, 64), "high", 10),  # 4 x 2.46
        ("gpt-4.1-mini", (10_000, 10_000), "low", 415),  # 16 x 16 patches
        ("gpt-5.5", (6_000, 6_000), "high", 3_000),  # 2,500 patches x 1.2
        ("gpt-5.5", (6_000, 6_000), "original", 12_000),
    ],
)
def test_images_of_openai(model: str, size: tuple[int, int], detail: str, tokens: int) -> None:
    assert tokens_of(OPENAI, model, openai(png(*size), detail)) == tokens


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("claude-sonnet-4-5", (1_000, 1_000), 1_334),  # Anthropic's own example
        ("claude-sonnet-4-5", (1_092, 1_092), 1_590),  # and
        ("claude-sonnet-4-5", (200, 200), 64),  # documented as ~54 by area; 8 x 8 patches are more
        ("claude-sonnet-4-5", (8_000, 8_000), 1_600),
        ("claude-opus-4-7", (1_000, 1_000), 1_334),
        ("claude-opus-4-7", (3_000, 2_000), 4_784),
    ],
)
def test_images_of_anthropic(model: str, size: tuple[int, int], tokens: int) -> None:
    assert tokens_of(CLAUDE, model, claude(png(*size))) == tokens


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gemini-2.5-flash", (384, 384), 258),
        ("gemini-2.5-flash", (960, 540), 516),  # 2 x 1 tiles
        ("gemini-2.5-flash", (1_000, 1_000), 1_032),
        ("gemini-3-flash-preview", (1_000, 1_000), 1_120),
    ],
)
def test_images_of_google(model: str, size: tuple[int, int], tokens: int) -> None:
    assert tokens_of(GEMINI, model, gemini(png(*size))) == tokens


@pytest.mark.parametrize(
    "data",
    [
        png(1_000, 1_000),
        jpeg(1_000, 1_000),
        gif(1_000, 1_000),
        *(webp(1_000, 1_000, kind) for kind in (b"VP8 ", b"VP8L", b"VP8X")),
    ],
    ids=["png", "jpeg", "gif", "webp lossy", "webp lossless", "webp extended"],
)
def test_the_size_is_read_from_every_format(data: str) -> None:
    assert tokens_of(CLAUDE, "claude-sonnet-4-5", claude(data)) == 1_334


UNKNOWN = {"gpt-4o": 1_445, "gpt-4.1-mini": 2_489, "gpt-5.5": 12_000}


@pytest.mark.parametrize("model", UNKNOWN)
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a-long-name-is-no-text.png"}},
        {"type": "image_url", "image_url": "https://example.org/1.png"},
        {"type": "input_image", "file_id": "file-1"},
        openai("AAAA"),
        openai(""),
        openai("not base64 at all!"),
        openai(png(0, 100)),
    ],
)
def test_an_image_of_unknown_size_costs_what_the_largest_would(model: str, part: Any) -> None:
    assert tokens_of(OPENAI, model, part) == UNKNOWN[model]


def test_images_only_named_cost_what_the_largest_would_elsewhere_too() -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": "https://example.org/1.png"}}
    assert tokens_of(CLAUDE, "claude-sonnet-4-5", by_url) == 1_600
    assert tokens_of(CLAUDE, "claude-opus-5", by_url) == 4_784
    by_uri = {"fileData": {"fileUri": "https://example.org/1.png", "mimeType": "image/png"}}
    assert tokens_of(GEMINI, "gemini-2.5-pro", by_uri) == 10 * 258


@pytest.mark.parametrize("detail", ["", "LOW", "x" * 1_000, "auto"])
def test_any_detail_may_be_asked(detail: str) -> None:
    assert tokens_of(OPENAI, "gpt-4o", openai(png(512, 512), detail)) in (85, 255)


def test_base64_is_never_text() -> None:
    data = base64.b64encode(bytes(300_000)).decode()
    for part in (
        openai(png(512, 512) + data),
        {"type": "input_image", "image_url": f"data:image/png;base64,{png(512, 512)}{data}"},
        {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{png(512, 512)}{data}"},
    ):
        assert tokens_of(OPENAI, "gpt-4o", part) == 255
    bedrock = {"image": {"format": "png", "source": {"bytes": png(1_000, 1_000) + data}}}
    assert tokens_of(Api("converse", "bedrock", None), "anthropic.claude-sonnet-4-5", bedrock) == 1_334
    ollama = {"role": "user", "content": "", "images": [png(1_000, 1_000) + data]}
    assert tokens_of(Api("ollama_chat", "ollama"), "llava", ollama) < 2_000


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_audio", "input_audio": {"data": "A" * 40_000, "format": "wav"}}, 320),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 25_000}}, 9_000),
        ({"type": "input_file", "file_url": "https://example.org/report.pdf"}, 30_000),
        ({"inlineData": {"mimeType": "video/mp4", "data": "A" * 1_000_000}}, 2_630),
        ({"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.org/watch"}}, 80_000),
        ({"document": {"format": "pdf", "name": "d", "source": {"bytes": "A" * 10_000}}}, 3_000),
    ],
)
def test_sound_films_and_files_count_by_their_length_or_at_a_flat_guess(part: Any, tokens: int) -> None:
    assert tokens_of(OPENAI, "gpt-4o", part) == tokens


def test_documents_of_plain_text_are_text() -> None:
    text = "The whole of the report in plain words. " * 20
    plain = tokens_of(CLAUDE, "claude-sonnet-4-5", {"type": "text", "text": text})
    source = {"type": "text", "media_type": "text/plain", "data": text}
    document = tokens_of(CLAUDE, "claude-sonnet-4-5", {"type": "document", "source": source})
    assert plain <= document <= plain + 10
    cohere = tokens_of(CLAUDE, "claude-sonnet-4-5", {"type": "document", "document": {"id": "1", "data": text}})
    assert cohere == plain
