"""The recorded exchanges of providers, which lie beside the checkout in shared/wire (see its README)."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

WIRE = Path(__file__).parents[2] / "shared" / "wire" / "wire-shared.jsonl.gz"
Exchange = dict[str, Any]


@cache
def _rows() -> tuple[Exchange, ...]:
    with gzip.open(WIRE, "rt", encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def exchanges(*apis: str) -> list[Exchange]:
    """Those of some APIs, as the recordings name them; all without a name. Skips the test where there are none."""
    if not WIRE.exists():
        pytest.skip("shared/wire, the recorded provider traffic, is not beside this checkout")
    return [row for row in _rows() if not apis or row["api"] in apis]


def body_of(row: Exchange) -> bytes:
    """The body of a response, as far as the recording has it: JSON may have other white space."""
    response = row["response"]
    if "body_b64" in response:
        return base64.b64decode(response["body_b64"])
    text = next((response[name] for name in ("sse_text", "ndjson_text", "text") if name in response), None)
    return (json.dumps(response["json"]) if text is None else text).encode()
