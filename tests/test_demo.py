"""The demonstration shows the main job, and says so with its exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from budgetguard.demo.books import AgentUsage, Books, Totals


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))}
    return subprocess.run(
        [sys.executable, "-m", "budgetguard.cli", "demo"], env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_books_agree_and_the_exit_code_says_so(shown: subprocess.CompletedProcess[str]) -> None:
    totals = re.findall(r"(?:bill|ledger|accounts): (.*)", shown.stdout)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert len(totals) >= 3 and len(set(totals[:3])) == 1
    assert "bill = ledger = accounts, overspend $0.00" in shown.stdout


def test_a_refusal_a_delayed_call_and_an_alert_are_shown_without_a_traceback(
    shown: subprocess.CompletedProcess[str],
) -> None:
    assert re.search(r"BudgetExceeded: search-team refused this call: .*\n  asked .* \| limit \$0\.045 =", shown.stdout)
    assert re.search(r"delayed: [a-z-]+ waited \d+ ms", shown.stdout)
    assert re.search(r"alert: search-team has spent \$0\.0\d+ of \$0\.045", shown.stdout)
    assert "Traceback" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("bill", "ledger", "accounts", "billed", "overspend", "agree"),
    [
        (5, 5, 5, 1, 0, True),
        (6, 5, 5, 1, 0, False),
        (5, 6, 5, 1, 0, False),
        (5, 5, 6, 1, 0, False),
        (5, 5, 5, 2, 0, False),
        (5, 5, 5, 1, 1, False),
    ],
)
def test_books_agree_only_if_every_figure_does(
    bill: int, ledger: int, accounts: int, billed: int, overspend: int, agree: bool
) -> None:
    rows = [AgentUsage("search", "crawler", 1, 3, 2, 7)]
    books = Books(rows, Totals(bill, 7), Totals(ledger, 7), Totals(accounts, 7), billed, overspend)
    assert books.agree is agree


def test_the_readme_promises_the_demonstration_under_this_name() -> None:
    assert "scripts/demo" in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
