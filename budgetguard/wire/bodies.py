"""A body of JSON as it comes. Of one that is too long to be kept, the first and the last members are read.

Members are those of the outermost object only: what an answer, a tool or a schema holds of the same name is not taken
for usage, wherever it lies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MOST_BODY = 8 * 1024 * 1024
"""The longest body that is kept whole, in bytes: only embeddings and pictures are longer."""
_KEPT = 64 * 1024
"""Bytes of each end of a longer one."""
_LAST = re.compile(
    rb'"(?:usage|usageMetadata|modelVersion|model|meta|metadata|amazon-bedrock-invocationMetrics|prompt_token_count'
    rb'|generation_token_count|inputTextTokenCount|totalOutputTextTokenCount|prompt_eval_count|eval_count)"\s*:'
)
"""The members that the readers of all APIs look at, as far as they stand behind what is long."""
_MOST_PLACES = 64
_MEMBER = re.compile(r'[\s,{]*("(?:[^"\\]|\\.)*")\s*:\s*')


class Body:
    """One body, of which nothing is known to begin with."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._first = b""
        """The beginning of a body that is not kept whole."""
        self._read: Mapping[str, Any] | None = None

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._kept += piece
        self._read = None
        if len(self._kept) > (2 * _KEPT if self._first else MOST_BODY):
            self._first = self._first or bytes(self._kept[:_KEPT])
            del self._kept[:-_KEPT]

    def members(self) -> Mapping[str, Any]:
        """What the object holds, as far as that is known; nothing where it is none, or not whole yet."""
        if self._read is None:
            self._read = self._members()
        return self._read

    def _members(self) -> Mapping[str, Any]:
        if self._first:
            return {**_first_members(self._first), **_last_members(bytes(self._kept))}
        return _object(bytes(self._kept))


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _first_members(text: bytes) -> dict[str, Any]:
    """The members at the beginning of an object that goes on."""
    begun, decoder, found, end = text.decode(errors="replace"), json.JSONDecoder(), {}, 0
    while member := _MEMBER.match(begun, end):
        try:
            value, end = decoder.raw_decode(begun, member.end())
        except (ValueError, RecursionError):
            break
        if end < len(begun):  # a number may go on
            found[json.loads(member[1])] = value
    return found


def _last_members(text: bytes) -> dict[str, Any]:
    """The members at the end of an object: what is left of it is an object again, if it is cut between two of them."""
    places = [place.start() for place in _LAST.finditer(text)][-_MOST_PLACES:]
    return next((found for place in places if (found := _object(b"{" + text[place:]))), {})
