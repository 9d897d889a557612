"""The fake provider's own bill: what it charges for each call, and the file that outlives its clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from budgetguard.core.amounts import check_amount

TOKENS_PER_PRICE = 1_000_000


class ProviderPrice(NamedTuple):
    """What a model costs, in whole nano-dollars per million tokens: $0.15 is 150_000_000."""

    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int

    def cost_nanousd(self, input_tokens: int, output_tokens: int) -> int:
        """The price of one call in nano-dollars, rounded up once."""
        exact = input_tokens * self.input_nanousd_per_mtok + output_tokens * self.output_nanousd_per_mtok
        return -(-exact // TOKENS_PER_PRICE)


@dataclass(frozen=True, slots=True)
class BilledCall:
    """One line of the bill; tokens as `bg.Usage` counts them.

    `cost_nanousd` is what the answer states, else by the provider's prices, else None. `request_id` is what the client
    sent as `x-request-id`, None where it sent nothing; `path` is what it asked for.
    """

    id: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_nanousd: int | None
    request_id: str | None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    path: str = ""


class Bill:
    """Every billed call in the order of billing; with a `path`, each is also appended there as a line of JSON.

    A line is with the operating system before `add` returns, so it stays whoever is killed afterwards.

    Raises:
        OSError: the file can't be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.calls: list[BilledCall] = []
        self._path = path
        if path is not None:
            path.touch()

    def add(self, call: BilledCall) -> None:
        """Bill a call."""
        self.calls.append(call)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(call)) + "\n")


def read_bill(path: Path) -> list[BilledCall]:
    """The calls of a bill file, in the order of billing.

    Raises:
        OSError: the file cannot be read.
    """
    return [BilledCall(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def check_prices(prices: Mapping[str, ProviderPrice]) -> dict[str, ProviderPrice]:
    """A copy of `prices` by model.

    Raises:
        InvalidAmount: a price is not a whole number of nano-dollars; names the model and the field.
    """
    for model, price in prices.items():
        for field, amount in price._asdict().items():
            check_amount(amount, f"prices[{model!r}].{field}")
    return dict(prices)
