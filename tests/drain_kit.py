"""What the tests of the drain share: ledger rows, an outbox in memory, and one in a folder that outlives a process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from store_kit import LABELS, NOON_MS, amounts, info, plan, rows, usage

from budgetguard.core.verbs import Row
from budgetguard.errors import StoreUnusable
from budgetguard.ledger.outbox import OutboxRow

NAMESPACE = "prod"
OF = plan("9999 tokens/day", "$1/total")


def row(id: str, revision: int = 1, tokens: int = 10, **changed: Any) -> Row:
    """The ledger row of a call that cost 7 nano-dollars a token."""
    actual = amounts(tokens, 1, 7 * (tokens + 1))
    made = Row(
        id, revision, "settled", NOON_MS, NOON_MS, NOON_MS + revision, info(actual, **LABELS, session=id),
        usage(actual), actual, OF, latency_ms=12, price_source="table",
    )  # fmt: skip
    return made._replace(**changed)


def entries(found: Iterable[Row | StoreUnusable], namespace: str = NAMESPACE, first: int = 1) -> list[OutboxRow]:
    """Entries of an outbox, in order."""
    return [OutboxRow(f"{number:06}", namespace, row) for number, row in enumerate(found, first)]


class MemoryOutbox:
    """An `Outbox`. `log` has what was asked of it; `before` is called, and may raise, before each request."""

    def __init__(self, found: Iterable[Row | StoreUnusable] = ()) -> None:
        self.entries = {entry.entry_id: entry for entry in entries(found)}
        self.log: list[tuple[Any, ...]] = []
        self.before: Callable[[str], None] = lambda what: None

    async def read(self, most: int, after: str = "") -> list[OutboxRow]:
        self.log.append(("read", most, after))
        self.before("read")
        return [entry for entry_id, entry in sorted(self.entries.items()) if entry_id > after][:most]

    async def drop(self, entry_ids: Sequence[str]) -> None:
        self.log.append(("drop", *entry_ids))
        self.before("drop")
        for entry_id in entry_ids:
            self.entries.pop(entry_id, None)


class FolderOutbox:
    """An `Outbox` of one file for each entry. `step` is called before and after everything that it does."""

    def __init__(self, folder: Path, step: Callable[[str], None] = lambda what: None) -> None:
        self.folder = folder
        self.step = step

    def fill(self, found: Iterable[Row]) -> None:
        """Put entries into the folder, which is made."""
        self.folder.mkdir()
        for entry in entries(found):
            (self.folder / entry.entry_id).write_bytes(pickle.dumps(entry))

    def standing(self) -> list[OutboxRow]:
        """What is in it."""
        return [pickle.loads(path.read_bytes()) for path in sorted(self.folder.iterdir())]  # noqa: S301 - our own

    async def read(self, most: int, after: str = "") -> list[OutboxRow]:
        self.step("read")
        found = []
        for path in sorted(self.folder.iterdir()):
            if path.name > after and len(found) < most:
                try:
                    found.append(pickle.loads(path.read_bytes()))  # noqa: S301 - our own
                except FileNotFoundError:  # another drainer dropped it meanwhile
                    continue
        self.step("has read")
        return found

    async def drop(self, entry_ids: Sequence[str]) -> None:
        for entry_id in entry_ids:
            self.step("drop")
            (self.folder / entry_id).unlink(missing_ok=True)
        self.step("has dropped")


def books(path: Path) -> dict[tuple[str, str], tuple[int, str, int, int]]:
    """Revision, status, tokens and nano-dollars of every row of a ledger, by namespace and id; the file is whole."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    found = rows(
        path, "SELECT namespace, reservation_id, revision, status, total_tokens, cost_nanousd FROM token_usage"
    )
    return {(namespace, id): tuple(rest) for namespace, id, *rest in found}  # type: ignore[misc]


def said_by(
    found: Iterable[Row], namespace: str = NAMESPACE
) -> dict[tuple[str, str], tuple[int, str, int, int | None]]:
    """What `books` must say of these rows: of each id the one with the highest revision."""
    highest: dict[str, Row] = {}
    for one in found:
        if one.id not in highest or one.revision > highest[one.id].revision:
            highest[one.id] = one
    return {
        (namespace, id): (
            one.revision, one.status, one.usage.prompt_tokens + one.usage.completion_tokens, one.usage.cost_nanousd
        )
        for id, one in highest.items()
    }  # fmt: skip
