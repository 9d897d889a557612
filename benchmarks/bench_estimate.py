"""What an estimate costs in CPU, beside reading the same body's JSON: `python benchmarks/bench_estimate.py`.

A prompt of 4 KB in 50 us, and a megabyte (or more) of anything in 5 ms, whatever somebody has made of it. Prints a
table with commit and versions; exits with 1 if a figure misses its bound.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from figures import Figure, Sizes, at_most, heading, median, progress, show

from budgetguard.estimate import EstimateSettings, estimate, load_tokenizers
from budgetguard.wire.apis import Api

PROMPT_US, MEGABYTE_US = 50, 5_000
MEGABYTE = 1_000_000
API = Api("chat", "openai", "gpt-4o")
BYTES, AUTO = EstimateSettings(tokenizer="bytes"), EstimateSettings()
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(200)).decode()
Body = Mapping[str, Any]


def figures(sizes: Sizes) -> list[Figure]:
    """Every body, each round in turn; the median of the rounds counts."""
    bodies = {what: (body, bound) for what, bound, body in _bodies()}
    cpu_us: dict[str, list[float]] = {what: [] for what in bodies}
    floor_us: dict[str, list[float]] = {what: [] for what in bodies}
    load_tokenizers()
    for number in range(sizes.rounds):
        progress(f"estimates: {number + 1} of {sizes.rounds}")
        for what, (body, _) in bodies.items():
            text = json.dumps(body)
            repeats = max(1, sizes.calls * 1_000 // len(text))
            settings = BYTES if what.endswith("by its bytes") else AUTO
            floor_us[what].append(_cpu_us(partial(json.loads, text), repeats))
            cpu_us[what].append(_cpu_us(partial(estimate, API, body, len(text), settings), repeats))
    return [
        at_most(what, median(cpu_us[what]), bound, _made_of(cpu_us[what], floor_us[what]), "{:.0f}")
        for what, (_, bound) in bodies.items()
    ]


def _made_of(cpu_us: list[float], floor_us: list[float]) -> str:
    floor = median(floor_us)
    return f"us of CPU; reading its JSON takes {floor:.0f}, a ratio of {median(cpu_us) / floor:.2f}"


def _cpu_us(call: Callable[[], object], repeats: int) -> float:
    call()
    started = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - started) / repeats * 1e6


def _bodies() -> list[tuple[str, int, Body]]:
    prose = "The quick brown fox jumps over the lazy dog; it is 2026, and f(x) = x + 1. " * 15_000
    random_bytes = random.Random(7).randbytes(MEGABYTE)
    noise = base64.b64encode(random_bytes).decode()
    short = _chat(prose[:3_600], prose[:300])
    small: list[tuple[str, int, Body]] = [
        ("a chat of 4 KB", PROMPT_US, short),
        ("a chat of 4 KB, by its bytes", PROMPT_US, short),
        ("a chat of 0.6 KB, counted where a tokenizer is at hand", PROMPT_US, _chat(prose[:580], "Be brief.")),
        ("a chat of 4 KB of emoji", PROMPT_US, _chat("🦊🎉" * 450)),
        ("a chat of 4 KB in ten messages", PROMPT_US, _chat(*[prose[:360]] * 10)),
    ]
    large = {
        "prose": _chat(prose[:MEGABYTE]),
        "one letter": _chat("a" * MEGABYTE),
        "spaces": _chat(" " * MEGABYTE),
        "digits": _chat("7" * MEGABYTE),
        "signs": _chat("{[(<~" * (MEGABYTE // 5)),
        "emoji": _chat("🦊" * (MEGABYTE // 4)),
        "Chinese": _chat("狐狸跳过懒狗" * (MEGABYTE // 18)),
        "lone surrogates": _chat("\ud83e" * (MEGABYTE // 6)),
        "base64 as text": _chat(noise[:MEGABYTE]),
        "images in base64": _images(noise),
        "2,900 tiny messages, all looked at": {"messages": [{}] * 2_900},
        "260 small images": _chat_of([{"type": "image_url", "image_url": {"url": PNG}}] * 260),
        "100,000 tiny messages": {"messages": [{"role": "user", "content": "x"}] * 100_000},
        "250,000 tiny texts": {"input": ["x"] * 250_000},
        "300,000 token numbers": {"input": list(range(300_000))},
        "deep nesting": {"messages": _nested(400)},
        "a wide object": {"tools": [{f"key{number}": number for number in range(60_000)}]},
        "tools, 2,000 of them": {"tools": [_tool(number) for number in range(2_000)], "messages": []},
        "a part with 60,000 keys": _chat_of([{"type": "image", **{f"key{n}": {} for n in range(60_000)}}]),
    }
    return small + [(f"large: {what}", MEGABYTE_US, body) for what, body in large.items()]


def _chat(*texts: str) -> Body:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text} for text in texts]}


def _chat_of(parts: list[Any]) -> Body:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}]}


def _images(noise: str) -> Body:
    """JPEGs whose metadata never ends."""
    head = base64.b64encode(b"\xff\xd8" + b"\xff\xe1\x00\x04\x00\x00" * 20_000).decode()
    url = f"data:image/jpeg;base64,{head}"
    return _chat_of([{"type": "image_url", "image_url": {"url": url}}] * (MEGABYTE // len(url)) + [noise[:1_000]])


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [{"content": value}]
    return value


def _tool(number: int) -> Body:
    name = {"type": "string", "description": "A name that says which one of them is meant, in a few plain words."}
    schema = {"type": "object", "properties": {"name": name, "count": {"type": "integer"}}, "required": ["name"]}
    return {"type": "function", "function": {"name": f"tool_{number}", "description": "x" * 200, "parameters": schema}}


def main() -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=Sizes.rounds, help="how often each takes its turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="once: shows that it runs, measures nothing")
    asked = parser.parse_args()
    sizes = Sizes(rounds=1, calls=1) if asked.quick else Sizes(rounds=asked.rounds)
    print(heading(sizes), end="\n\n", flush=True)
    found = figures(sizes)
    show(found)
    return int(any(figure.met is False for figure in found))


if __name__ == "__main__":
    sys.exit(main())
