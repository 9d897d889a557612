"""A fake provider in a process of its own, so that what it computes is no part of what a client waits for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from budgetguard.testing import FakeProvider, ProviderPrice

MODEL = "gpt-4o-mini"
PRICES = {MODEL: ProviderPrice(150_000_000, 600_000_000)}


@contextmanager
def local_provider() -> Iterator[str]:
    """Its base URL, while it runs."""
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        if made.stdin is None or made.stdout is None:
            raise RuntimeError("the provider's process has no pipes")
        try:
            yield made.stdout.readline().strip()
        finally:
            made.stdin.close()  # which ends it


async def _serve() -> None:
    async with FakeProvider(PRICES) as provider:
        print(provider.base_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
