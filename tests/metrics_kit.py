"""What the tests of metrics share: samples as they are told, and the command that serves them."""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from cli_kit import COMMAND, DEADLINE_S, environment
from daemon_kit import free_port, wait_until
from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Every sample: its name without `budgetguard_` and its labels that are not empty, sorted; fails on a duplicate."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if value))
            key = sample.name.removeprefix("budgetguard_"), labels
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


class Served:
    """`budgetguard metrics` in a folder, on a free port."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [*COMMAND, "metrics", "--port", str(self.port), *args], cwd=folder, env=environment(folder),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until(lambda: self.process.poll() is not None or self._answers(), "it serves")

    def _answers(self) -> bool:
        try:
            return bool(self.scraped())
        except urllib.error.URLError:
            return False

    def scraped(self) -> Samples:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{self.port}/metrics", timeout=DEADLINE_S) as answer:
            return samples(answer.read().decode())

    def end(self) -> tuple[int, str]:
        """Its exit code after SIGTERM, and what it said."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said
