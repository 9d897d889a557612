"""`budgetguard metrics`: what stands in a store, for Prometheus, and the alert rules and dashboard for it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budgetguard.cli.options import ConfigOption, StoreOption
from budgetguard.cli.output import note
from budgetguard.cli.sources import looked_at, policy_or_store
from budgetguard.errors import BudgetGuardError, ConfigError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from budgetguard.metrics_accounts import Standing

FILES = {"rules": "rules.yml", "dashboard": "dashboard.json"}


def metrics(
    config: ConfigOption = None,
    store: StoreOption = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Where to serve; 0 takes a free one.")] = 9464,
    host: Annotated[str, typer.Option("--host", help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    show: Annotated[
        Literal["rules", "dashboard"] | None,
        typer.Option("--show", help="Print the alert rules for Prometheus, or the dashboard for Grafana, and exit."),
    ] = None,
) -> None:
    """Serve what stands in the store to Prometheus, until Ctrl-C or SIGTERM.

    One for each store: limit, spent and reserved of every account, and the ledger rows that wait to be drained. What
    calls do is counted in the processes that make them (budgetguard.metrics.Prometheus).
    """
    if show is not None:
        folder = Path(__file__).resolve().parent.parent / "monitoring"
        typer.echo((folder / FILES[show]).read_text(encoding="utf-8"), nl=False)
        return
    from budgetguard.metrics import need_client

    need_client()
    policy_or_store(config, store)  # its faults are told now, not with the first scrape
    _serve(Scraped(config, store), host, port)


class Scraped:
    """What stands in the store, read anew for each scrape: policy and store may have changed. From any thread."""

    def __init__(self, config: Path | None, store: str | None) -> None:
        self._config = config
        self._store = store
        self._told = ""

    def collect(self) -> Iterable[Metric]:
        """The metrics. What keeps them from being read is told once."""
        from budgetguard.metrics_accounts import families

        found, trouble = None, ""
        try:
            found = asyncio.run(self._look())
        except BudgetGuardError as error:
            trouble = str(error)
        if trouble != self._told:
            note(trouble or "the store can be read again")
            self._told = trouble
        return families(found)

    async def _look(self) -> Standing:
        from budgetguard.metrics_accounts import standing

        policy, settings = policy_or_store(self._config, self._store)
        async with looked_at(settings, self._store) as store:
            return await standing(policy, store)


def _serve(scraped: Scraped, host: str, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(scraped)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"{host}:{port}", [f"nothing can be served there: {error.strerror or error}"]) from None
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # how services are ended
    shown = f"[{host}]" if ":" in host else host
    note(f"serving http://{shown}:{server.server_port}/metrics until Ctrl-C")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.shutdown()
        thread.join()
        server.server_close()
