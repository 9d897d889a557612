"""What an image costs in tokens, by the rules that the makers of models document.

- OpenAI, https://developers.openai.com/api/docs/guides/images-vision: tiles of 512 pixels, or patches of 32.
- Anthropic, https://platform.claude.com/docs/en/build-with-claude/vision: width x height / 750, or patches of 28.
- Google, https://ai.google.dev/gemini-api/docs/media-resolution and .../tokens: tiles of 768 pixels; since Gemini 3 a
  fixed number for each resolution.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, sqrt
from typing import Protocol

from budgetguard.estimates.families import first_match

UNKNOWN_SIDE = 1_000_000
"""Stands for the sides of an image that is only named, by URL or id: it costs what the largest one would."""


class ImageRule(Protocol):
    """The tokens of an image of so many pixels; `detail` is "low", "high", "original", "auto" or what a user wrote."""

    def __call__(self, width: int, height: int, detail: str) -> int:
        """At least 1; for sides of any length."""
        ...


def tiles(base: int, each: int) -> ImageRule:
    """Scaled into 2,048 x 2,048, then to a shortest side of 768: so many tokens, and more for each tile of 512."""

    def rule(width: int, height: int, detail: str) -> int:
        if detail == "low":
            return base
        if width == UNKNOWN_SIDE:
            width, height = 768, 2_048  # the form that has most tiles
        scale = min(1.0, 2_048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        return base + each * ceil(round(width * scale, 6) / 512) * ceil(round(height * scale, 6) / 512)

    return rule


def patches(percent: int, most: int, side: int = 2_048, most_original: int | None = None) -> ImageRule:
    """Patches of 32 pixels, at most so many (the image is scaled down to them), times a factor in percent.

    `low` is scaled into 512 x 512 first. `most_original` is for models that take images as they are, to 6,000 pixels a
    side, where `detail` says so or nothing.
    """

    def rule(width: int, height: int, detail: str) -> int:
        original = most_original is not None and detail not in ("low", "high")
        limit, longest = (most_original or most, 6_000) if original else (most, 512 if detail == "low" else side)
        if width == UNKNOWN_SIDE:
            return _percent(min(limit, (longest // 32) ** 2), percent)
        scale = min(1.0, longest / max(width, height))
        wide, high = max(1.0, round(width * scale)), max(1.0, round(height * scale))
        count = ceil(wide / 32) * ceil(high / 32)
        if count > limit:
            shrink = sqrt(32 * 32 * limit / (wide * high))
            across, down = wide * shrink / 32, high * shrink / 32
            # To whole patches along the side that loses less.
            shrink *= min(max(1, floor(across)) / across, max(1, floor(down)) / down)
            count = min(limit, ceil(floor(wide * shrink) / 32) * ceil(floor(high * shrink) / 32))
        return _percent(max(1, count), percent)

    return rule


def areas(most: int, longest: int, least: int = 1) -> ImageRule:
    """Width x height / 750, or patches of 28 pixels if these are more; larger images are scaled down to `most`."""

    def rule(width: int, height: int, detail: str) -> int:
        scale = min(1.0, longest / max(width, height))
        wide, high = max(1.0, width * scale), max(1.0, height * scale)
        return min(most, max(least, ceil(wide * high / 750), ceil(wide / 28) * ceil(high / 28)))

    return rule


def _gemini_2(width: int, height: int, detail: str) -> int:
    """258 for each tile of 768 pixels, 258 in all up to 384 x 384; one that is only named counts as ten tiles."""
    if width == UNKNOWN_SIDE:
        return 10 * 258
    if max(width, height) <= 384:
        return 258
    return 258 * ceil(min(width, 16_384) / 768) * ceil(min(height, 16_384) / 768)


def _gemini_3(width: int, height: int, detail: str) -> int:
    return {"low": 280, "medium": 560, "ultra_high": 2_240}.get(detail.removeprefix("media_resolution_"), 1_120)


def _percent(count: int, percent: int) -> int:
    return -(-count * percent // 100)


_GPT_4O, _GPT_5, _O3 = tiles(85, 170), tiles(70, 140), tiles(75, 150)
# Their factor is documented as 1; users measure 1.2 (https://community.openai.com/t/1372291), as with 5.2.
_LATER_GPT = patches(120, 2_500, most_original=10_000)
_CLAUDE, _CLAUDE_DENSE = areas(1_600, 1_568), areas(4_784, 2_576)
_BY_MODEL: tuple[tuple[str, ImageRule], ...] = (
    ("gpt-4o-mini*", tiles(2_833, 5_667)),
    ("gpt-4.1-mini*", patches(162, 1_536)),
    ("gpt-4.1-nano*", patches(246, 1_536)),
    ("gpt-5*-nano*", patches(246, 1_536)),
    ("gpt-5*-mini*", patches(162, 1_536)),
    ("o4-mini*", patches(172, 1_536)),
    ("gpt-5.[23]*", patches(120, 1_536)),
    ("gpt-5.1*", _GPT_5),
    ("gpt-5.*", _LATER_GPT),
    ("gpt-5*", _GPT_5),
    ("gpt-4*", _GPT_4O),
    ("o[13]*", _O3),
    ("*gemini-[12]*", _gemini_2),
    ("*gemini*", _gemini_3),
)
_BY_FAMILY = {"openai": _LATER_GPT, "claude": _CLAUDE, "claude-dense": _CLAUDE_DENSE, "gemini": _gemini_3}
_OTHER = areas(4_784, 4_096, least=260)
"""Of models without a documented rule: as the dearest of the documented areas, and at least a tile of Cohere's."""


@lru_cache(maxsize=1024)
def image_rule(family: str, model: str) -> ImageRule:
    """The rule of a model, by its plain name, or of its family."""
    return first_match(_BY_MODEL, model) or _BY_FAMILY.get(family, _OTHER)
