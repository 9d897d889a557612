"""How the models of one maker count: what their tokenizer makes of a text, and what they add to it.

The figures are measured over recorded traffic (`../shared/wire`), against what each response says was used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Family(NamedTuple):
    """The factors, in percent, are on the weights of `texts`; the rest is in tokens."""

    name: str
    ascii_percent: int = 110
    beyond_percent: int = 145
    """For what is not ASCII."""
    per_message: int = 5
    per_request: int = 30
    with_tools: int = 150
    """What tools add once, beside their own text: instructions that the provider writes around them."""
    with_schema: int = 40
    """What a schema of the answer adds."""
    with_server_tools: int = 1_500
    """What tools that the provider runs bring into the input: the middle of what was recorded, no bound: 115,886 tokens
    of search results were recorded once."""
    encoding: str | None = None
    """The tokenizer that counts exactly, where it is published."""


_OPENAI = Family("openai", 100, 100, per_message=4, per_request=7, with_tools=30, encoding="o200k_base")
"""Three tokens and the role for each message, and three for the answer: exact in 672 of 747 recorded chats. Responses
and reasoning models add up to four. Tools are rewritten shorter than their JSON."""
_GPT_OSS = _OPENAI._replace(name="gpt-oss", per_request=75)
"""A hidden system message of 65 to 68 tokens says the date and how to reason, wherever it is served."""
_CL100K = _OPENAI._replace(name="cl100k", beyond_percent=145, encoding="cl100k_base")
_CLAUDE = Family("claude", 120, 165, per_request=36, with_tools=700, with_schema=300, with_server_tools=5_000)
"""1.15 times o200k_base in the middle, 1.40 at p95; a request that lets it think has 28 hidden tokens. The
instructions for tools are 313 to 530 tokens by model and choice
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview); p95 of what is added is 672."""
_CLAUDE_DENSE = _CLAUDE._replace(name="claude-dense", ascii_percent=160, beyond_percent=200, with_tools=900)
"""Since Opus 4.7, and all of generation 5: a tokenizer that makes up to 1.35 times as many tokens of a text
(https://platform.claude.com/docs/en/about-claude/models/migration-guide), 1.37 to 1.58 times o200k_base."""
_GEMINI = Family("gemini", 108, 125, per_message=2, per_request=3, with_tools=120, with_server_tools=1_000)
_GROK = Family("grok", 105, 125, per_request=210, with_tools=150)
"""Hidden instructions of 130 to 200 tokens come before every request."""
_COHERE = Family("cohere", 112, 145, per_message=4, per_request=5, with_tools=30)
"""As billed: a hidden preamble of about 490 tokens, and 1,400 with tools, is in `tokens`, but not in `billed_units`."""
_DEEPSEEK = Family("deepseek", 112, 120, per_request=80, with_tools=200)
"""Since V4 some 70 hidden tokens come before a request."""
_LLAMA_2 = Family("llama-2", 130, 250)
_LLAMA = Family("llama", 108, 145, per_request=40, with_tools=700)
_MISTRAL = Family("mistral", 112, 140, with_tools=100)
_NOVA = Family("nova", 115, 165, with_tools=900)
_OTHER = Family("other", 112, 150, with_tools=700)

# By the model's name without its path and `ft:`, the first that matches.
_BY_MODEL: tuple[tuple[str, Family], ...] = (
    *((glob, _OPENAI) for glob in ("gpt-4o*", "gpt-4.*", "gpt-5*", "gpt-6*", "o[1-9]*", "chatgpt-*")),
    ("*gpt-oss*", _GPT_OSS),
    *((glob, _CL100K) for glob in ("gpt-4*", "gpt-3.5*", "gpt-35*", "text-embedding-*", "davinci-002", "babbage-002")),
    *((f"*claude{glob}", _CLAUDE) for glob in ("-[0-3]*", "-instant*", "-v[12]*", "-4-sonnet*", "-4-opus*")),
    *((f"*claude-*-4{glob}", _CLAUDE) for glob in ("", "[-.@][0-6]", "[-.@][0-6][-@]*", "[-.@]20*")),
    ("*claude*", _CLAUDE_DENSE),
    ("*gemini*", _GEMINI),
    ("*gemma*", _GEMINI),
    ("*grok*", _GROK),
    ("*command*", _COHERE),
    ("*deepseek-v[4-9]*", _DEEPSEEK),
    ("*llama2*", _LLAMA_2),
    ("*llama-2*", _LLAMA_2),
    ("*llama*", _LLAMA),
    *((f"*{name}*", _MISTRAL) for name in ("mistral", "mixtral", "ministral", "codestral", "magistral", "pixtral")),
    ("*nova*", _NOVA),
)
_BY_PROVIDER: Mapping[str, Family] = {
    "openai": _OPENAI,
    "azure_openai": _OPENAI,
    "anthropic": _CLAUDE_DENSE,
    "gemini": _GEMINI,
    "vertex": _GEMINI,
    "xai": _GROK,
    "cohere": _COHERE,
    "mistral": _MISTRAL,
}


@lru_cache(maxsize=1024)
def family_of(provider: str, model: str) -> Family:
    """How the model of this plain name counts; one that is not known, as its provider's others do."""
    return first_match(_BY_MODEL, model) or _BY_PROVIDER.get(provider, _OTHER)


def plain_name(model: str) -> str:
    """A model's name in lower case, without path (`openai/gpt-4o`) and `ft:`."""
    return model[:200].lower().rsplit("/", 1)[-1].removeprefix("ft:")


def first_match(table: Iterable[tuple[str, T]], model: str) -> T | None:
    """What the first glob that matches stands for."""
    return next((value for glob, value in table if fnmatchcase(model, glob)), None)
