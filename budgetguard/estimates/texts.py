"""What a text weighs in tokens, told from its bytes alone.

Each byte counts by what it is. The weights were fitted to OpenAI's o200k_base over the texts of 153 recorded requests
(English and German prose, code, JSON, mathematics), so that nearly all weigh at least what they are, the middle one
1.24 times that. Other tokenizers are factors on them: see `families`. A text is never cut into words: weighing takes
a few passes over its bytes, and of a long text over a sample of them.
"""

from __future__ import annotations

_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = b"0123456789"
_ASCII = bytes(range(128))
_WITHIN, _LEAD_2, _LEAD_3 = bytes(range(0x80, 0xC0)), bytes(range(0xC0, 0xE0)), bytes(range(0xE0, 0xF0))

# Thousandths of a token.
_LOWER_WEIGHT, _SPACE_WEIGHT, _UPPER_WEIGHT, _DIGIT_WEIGHT, _SIGN_WEIGHT = 180, 340, 500, 800, 900
_CHAR_2_WEIGHT = 800  # Latin with accents, Cyrillic, Greek, Arabic, Hebrew: whole words, or one token each
_CHAR_3_WEIGHT = 1_200  # Chinese, Japanese, Korean, Indic, Thai, typographic signs
_CHAR_4_WEIGHT = 3_000  # emoji, which come in sequences
_LONG_RUN = 9
_LONG_RUN_WEIGHT = 550
"""Letters beyond nine to each other byte are no words: random ones make a token of two."""
_KEY_WEIGHT = 1_000
"""Capitals and digits without spaces between them, as in base64, hex and keys."""
_MOST_WHOLE = 100_000
_BLOCKS, _BLOCK_CHARS = 48, 2_048
"""What is weighed of a longer text: evenly spaced, about the same for any length."""


def weigh(text: str) -> tuple[int, int]:
    """The weight of the ASCII part of a text and of the rest, in thousandths of an o200k_base token."""
    if len(text) <= _MOST_WHOLE:
        return _weigh_all(text)
    step = (len(text) - _BLOCK_CHARS) // (_BLOCKS - 1)
    starts = range(0, step * _BLOCKS, step)
    within, beyond = _weigh_all("".join(text[start : start + _BLOCK_CHARS] for start in starts))
    weighed = _BLOCKS * _BLOCK_CHARS
    return within * len(text) // weighed, beyond * len(text) // weighed


def _weigh_all(text: str) -> tuple[int, int]:
    data = text.encode("utf-8", "surrogatepass")
    others = data.translate(None, _LOWER)
    lower, space = len(data) - len(others), others.count(b" ")
    rest = others.translate(None, _UPPER)
    upper = len(others) - len(rest)
    others = rest.translate(None, _DIGITS)
    digits = len(rest) - len(others)
    beyond = b"" if text.isascii() else others.translate(None, _ASCII)
    signs = len(others) - len(beyond) - space
    weight = space * _SPACE_WEIGHT + signs * _SIGN_WEIGHT
    if upper + digits > max(lower // 2, space * 20):
        weight += (upper + digits) * _KEY_WEIGHT + lower * _LONG_RUN_WEIGHT
    else:
        long = max(0, lower - _LONG_RUN * (len(data) - lower + 1))
        weight += upper * _UPPER_WEIGHT + digits * _DIGIT_WEIGHT
        weight += (lower - long) * _LOWER_WEIGHT + long * _LONG_RUN_WEIGHT
    return weight, _weight_beyond_ascii(beyond)


def _weight_beyond_ascii(data: bytes) -> int:
    """Told by the first byte of each character, which says how long it is."""
    if not data:
        return 0
    leads = data.translate(None, _WITHIN)
    others = leads.translate(None, _LEAD_2)
    four = len(others.translate(None, _LEAD_3))
    two, three = len(leads) - len(others), len(others) - four
    return two * _CHAR_2_WEIGHT + three * _CHAR_3_WEIGHT + four * _CHAR_4_WEIGHT
