"""What a text weighs in tokens, told from its bytes alone.

Each byte counts by what it is. The weights were fitted to OpenAI's o200k_base over the texts of 153 recorded requests
(English and German prose, code, JSON, mathematics), so that nearly all weigh at least what they are, the middle one
1.24 times that. Other tokenizers are factors on them: see `families`. A text is never cut into words: a megabyte takes
a few passes over its bytes.
"""

from __future__ import annotations

_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = b"0123456789"
_ASCII = bytes(range(128))
_LEAD_2, _LEAD_3, _LEAD_4 = bytes(range(0xC2, 0xE0)), bytes(range(0xE0, 0xF0)), bytes(range(0xF0, 0xF5))

# Thousandths of a token.
_LOWER_WEIGHT, _SPACE_WEIGHT, _UPPER_WEIGHT, _DIGIT_WEIGHT, _SIGN_WEIGHT = 180, 340, 500, 800, 900
_CHAR_2_WEIGHT = 800  # Latin with accents, Cyrillic, Greek, Arabic, Hebrew: whole words, or one token each
_CHAR_3_WEIGHT = 1_200  # Chinese, Japanese, Korean, Indic, Thai, typographic signs
_CHAR_4_WEIGHT = 3_000  # emoji, which come in sequences
_LONG_RUN = 9
_LONG_RUN_WEIGHT = 550
"""Letters beyond nine to each other byte are no words: random ones make a token of two."""
_KEY_WEIGHT = 1_000
"""Letters and digits without spaces between them, as in base64, hex and keys."""


def weigh(text: str) -> tuple[int, int]:
    """The weight of the ASCII part of a text and of the rest, in thousandths of an o200k_base token."""
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
        weight += (upper + digits) * _KEY_WEIGHT + lower * _KEY_WEIGHT // 2
    else:
        long = max(0, lower - _LONG_RUN * (len(data) - lower + 1))
        weight += upper * _UPPER_WEIGHT + digits * _DIGIT_WEIGHT
        weight += (lower - long) * _LOWER_WEIGHT + long * _LONG_RUN_WEIGHT
    return weight, _weight_beyond_ascii(beyond)


def _weight_beyond_ascii(data: bytes) -> int:
    """Told by the first byte of each character, which says how long it is."""
    if not data:
        return 0
    two, three, four = (len(data) - len(data.translate(None, lead)) for lead in (_LEAD_2, _LEAD_3, _LEAD_4))
    return two * _CHAR_2_WEIGHT + three * _CHAR_3_WEIGHT + four * _CHAR_4_WEIGHT
