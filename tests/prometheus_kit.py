"""A real Prometheus for the tests: it scrapes, evaluates rules and is asked."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon_kit import Daemon, free_port

MISSING = "needs prometheus and promtool, and they are not on PATH: scripts/test installs them, or says what to install"
CONFIG = """
global: {evaluation_interval: 200ms}
rule_files: [rules.yml]
scrape_configs:
"""
JOB = """
  - job_name: {name}
    scrape_interval: {every}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
START_TRIES = 3


def has_prometheus() -> bool:
    """Whether Prometheus and its tool are on PATH."""
    return all(map(shutil.which, ("prometheus", "promtool")))


class PrometheusServer(Daemon):
    """Evaluates the rules five times a second, and scrapes the jobs: by its name, a port of this machine and how often.

    A scrape may take as long as the pause between two.
    """

    def __init__(self, jobs: Mapping[str, tuple[int, str]], rules: Path) -> None:
        super().__init__("prometheus")
        of_jobs = [JOB.format(name=name, port=port, every=every) for name, (port, every) in jobs.items()]
        text = CONFIG + "".join(of_jobs)
        (self.folder / "prometheus.yml").write_text(text, encoding="utf-8")
        shutil.copy(rules, self.folder / "rules.yml")
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(START_TRIES):  # another process may take the port between the look and the start
            self.port = free_port()
            if self.launch(self._command(), self._ready):
                return
        text = self.log.read_text(encoding="utf-8")[-2000:]
        self.close()
        raise AssertionError(f"prometheus does not start:\n{text}")

    def __enter__(self) -> PrometheusServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> list[str]:
        return [
            "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip

    def _ready(self) -> bool:
        try:
            with self._direct.open(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **asked: str) -> Any:
        """The data of an answer of its API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with self._direct.open(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{asked}: {error.read().decode()}") from None

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """What an expression says now: values by their labels, those of the target and the name left out."""
        target = {"__name__", "instance", "job"}
        return {
            frozenset((name, value) for name, value in found["metric"].items() if name not in target): float(
                found["value"][1]
            )
            for found in self.ask("query", query=expression)["result"]
        }
