"""How many tokens a streamed text is, told from its bytes, where a stream breaks off before it says so itself.

Measured over the 326 recorded streams that state their output (tests/test_wire_streams.py prints the figures): English
of 300 bytes or more has 4 to 5 bytes a token with most tokenizers, JSON and code 3, and Claude's text 2.5 to 4. Each
answer has some tokens that are not in its text, and each call of a tool more: about 10 to 20, Claude's 30 to 40. With
the figures below 86 % of the streams are counted at their truth or above it, of each kind of which there are more than
two three in four or more, and all together at 1.2 times of it. Reasoning that is hidden cannot be counted.
"""

from __future__ import annotations

from typing import NamedTuple

from budgetguard.wire.apis import Api


class Density(NamedTuple):
    """Tokens of a text: `tokens` in `of_bytes`, and those beside the text of each call of a tool and of the answer."""

    tokens: int
    of_bytes: int
    call_tokens: int
    answer_tokens: int

    def of(self, text_bytes: int, pieces: int, calls: int) -> int:
        """The tokens of what was streamed in `pieces`, none of which is less than a token; zero of nothing."""
        if not pieces and not calls:
            return 0
        text_tokens = -(-text_bytes * self.tokens // self.of_bytes)
        return max(text_tokens, pieces) + calls * self.call_tokens + self.answer_tokens


CLAUDE = Density(tokens=2, of_bytes=5, call_tokens=40, answer_tokens=5)
OTHERS = Density(tokens=2, of_bytes=7, call_tokens=20, answer_tokens=5)


def density_of(api: Api) -> Density:
    """That of the models behind an API, as far as the request tells which these are."""
    return CLAUDE if api.kind in ("messages", "complete") or "claude" in (api.model or "") else OTHERS
