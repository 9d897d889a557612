"""The documentation: its Python blocks run as they stand, its policies are good, its commands and names are there.

`test_recipes` runs the recipes; `scripts/check` builds the pages.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import apsw
import pytest
from browser_kit import browsing
from test_readme import amounts_left_out
from typer.main import get_command
from warm_python import ran_warm

import budgetguard as bg
from budgetguard import testing
from budgetguard.cli.app import app
from budgetguard.policy_checks import span_ms
from budgetguard.policy_file import FILE_CHECKS
from budgetguard.testing import FakeProvider, ProviderPrice

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
TEXTS = {
    str(path.relative_to(DOCS).with_suffix("")): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
    if path.parent.name != "recipes"
}
SAYS = {
    "alerts-and-reports": r"^threshold .*(?s:.*)^\{.*'cost_nanousd': 240000000",
    "budgets": r"^default refused this call: 1 requests/day is spent$(?s:.*)^run#\w+ refused this call: \$1/total is ",
    "index": r"^default refused this call: \$0.05/day is spent\n  asked "
    r"(?s:.*)^  \d+ output tokens are learned: p95 of \d+ calls of model gpt-4o$(?s:.*)^\{.*'concurrent': 20",
}
"""What the blocks of a page print."""
EACH = """
for number, block in enumerate({blocks!r}, 1):
    exec(compile(block, f"block {{number}}", "exec"), {{"__name__": "__main__"}})
"""
PYTEST = "import pytest; raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:langsmith_plugin']))"
MODULES = ("anthropic", "cohere", "openai", "prometheus_client")
"""What the blocks import."""
IMPORTED = ("budgetguard.stores.sqlite", *MODULES)
COMMANDS: Any = get_command(app)
VARIABLES = {
    "BUDGETGUARD_STORE": "redis://user:password@host:6379/0", "SEARCH_WEBHOOK": "https://hooks.example.com/budgets",
    "WEBHOOK_SECRET": "sixteen bytes, or more",
}  # fmt: skip


def blocks(page: str, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", TEXTS[page], re.DOTALL)


def scripts(page: str) -> list[str]:
    """The Python blocks that are no tests."""
    return [block for block in blocks(page, "python") if "def test_" not in block]


def run(page: str, folder: Path) -> str:
    """What the blocks of a page print, run one after the other; their clients meet a provider on this machine."""
    for text in blocks(page, "toml")[:1]:
        (folder / "budgetguard.toml").write_text(text, encoding="utf-8")
    prices = {name: ProviderPrice(150_000_000, 600_000_000) for name in ("gpt-4o", "gpt-4o-mini")}
    with FakeProvider.in_thread(prices) as provider:
        environment = {
            **os.environ, "XDG_STATE_HOME": str(folder / "state"), "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": provider.base_url, "ANTHROPIC_API_KEY": "any",
        }  # fmt: skip
        return ran_warm(EACH.format(blocks=scripts(page)), folder, environment, IMPORTED)


@pytest.mark.early
def test_the_python_of_the_pages_does_what_it_says(tmp_path: Path) -> None:
    """Their tests pass, too. One test: all are forks of one process, which has imported the SDKs."""
    missing = {name for name in MODULES if importlib.util.find_spec(name) is None}
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")
    for page in filter(scripts, TEXTS):
        folder = tmp_path / page
        folder.mkdir(parents=True)
        said = run(page, folder)
        assert re.search(SAYS.get(page, ""), said, re.MULTILINE), said
        for shown in blocks(page, "text"):  # refusals, but for what was learned, the time and the id
            for asked in re.findall(r"asked .*? \| resets ", shown):
                assert amounts_left_out(asked) in amounts_left_out(said), said
    tests = [block for page in TEXTS for block in blocks(page, "python") if "def test_" in block]
    assert len(tests) == 3 and any(block in README for block in tests)  # which has the same
    (tmp_path / "tests").mkdir()
    for number, block in enumerate(tests):
        (tmp_path / "tests" / f"test_{number}.py").write_text(block, encoding="utf-8")
    assert "3 passed" in ran_warm(PYTEST, tmp_path / "tests", os.environ, IMPORTED)


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks(page, "toml")])
def test_the_policies_of_a_page_are_good(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    for number, text in enumerate(blocks(page, "toml")):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
        assert bg.Guard.from_toml(tmp_path / f"{number}.toml").policy.budgets


def test_the_query_of_a_page_is_answered_by_a_stores_file(tmp_path: Path) -> None:
    (query,) = blocks("alerts-and-reports", "sql")
    guard = bg.Guard("$5/day", store=f"sqlite:///{tmp_path / 'budgets.db'}")
    for _ in range(2):
        with guard.sync.reserve(task="sum", model="m", estimate=bg.Usage(100, 20, cost_usd="0.30")) as hold:
            hold.record(bg.Usage(90, 15, cost_usd="0.25"))
    guard.sync.close()
    assert apsw.Connection(str(tmp_path / "budgets.db")).execute(query).fetchall() == [("sum", 0.5, 180, 30)]


def test_the_built_pages_are_whole_as_files_and_ask_nobody_for_anything() -> None:
    names = ("index", "estimates", "what-happens-when", "reference/policy", "commands/report")
    pages = [Path(sys.prefix) / "docs" / f"{name}.html" for name in names]
    if not all(page.exists() for page in pages):
        pytest.skip("scripts/check builds the documentation, and has not run")
    with browsing() as browser:
        for page, width in itertools.product(pages, (390, 1280)):
            browser.open(page, width=width)
            assert browser.complaints() == []
            assert {address.partition(":")[0] for address in browser.requested()} == {"file", "data"}
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("document.querySelectorAll('nav a[href$=\"budgets.html\"]').length") > 0


def unknown(line: str) -> list[str]:
    """What a line of the shell says to budgetguard that it does not know."""
    command = COMMANDS
    known, wrong, before = {"--help"}, [], ""
    for word in shlex.split(line, comments=True)[1:]:
        below = vars(command).get("commands", {})
        if word in below:
            command = below[word]
            known = {"--help"} | {name for option in command.params for name in option.opts}
        elif word.startswith("-"):
            wrong += [word] * (word not in known)
        elif below and not before.startswith("-"):
            wrong.append(word)
        before = word
    return wrong


def test_the_commands_of_the_pages_are_there_with_their_options() -> None:
    texts = [*TEXTS.values(), README]
    shells = [block for text in texts for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in shells for line in block.splitlines() if line.startswith("budgetguard ")]
    assert len(lines) > 30 and {line: wrong for line in lines if (wrong := unknown(line))} == {}
    inline = re.findall(r"`(budgetguard [a-z][^`]*)`", " ".join(" ".join(texts).split()))
    assert len(inline) > 10 and {line: wrong for line in inline if (wrong := unknown(line))} == {}
    assert unknown("budgetguard report --by team --nothing") == ["--nothing"]
    assert unknown("budgetguard ledger dry") == ["dry"] == unknown("budgetguard dry")


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(text for page, text in TEXTS.items() if page.startswith("reference/"))
    named = set(re.findall(r"^::: budgetguard\.(\S+)$", reference, re.MULTILINE))
    assert set(bg.__all__) - named == {"AlertRaised", "Event", "Observer"}  # on the page that is made
    assert {f"testing.{name}" for name in testing.__all__} <= named


def test_the_reference_of_the_file_has_every_key_with_its_default() -> None:
    (text,) = blocks("reference/policy", "toml")
    told = tomllib.loads(text)
    assert told.keys() == FILE_CHECKS.keys()
    for kind, table in {
        bg.GuardSettings: "guard", bg.StoreSettings: "store", bg.LedgerSettings: "ledger", bg.AlertSettings: "alerts",
        bg.EstimateSettings: "estimate", bg.LabelRules: "labels", bg.Budget: "budget", bg.Price: "price",
        bg.Host: "host", bg.Owner: "owner", bg.AlertRoute: "alert",
    }.items():  # fmt: skip
        entry = told[table][0] if isinstance(told[table], list) else told[table]
        fields = {field.name: field.default for field in dataclasses.fields(kind) if field.init}
        fields.pop("routes", None)  # the tables `[[alert]]`
        assert entry.keys() == {name.removesuffix("_ms") for name in fields}
        if table in ("guard", "store", "estimate", "alerts"):
            said = {name: span_ms(entry[name[:-3]], name) if name.endswith("_ms") else entry[name] for name in fields}
            assert said == {name: said[name] if default is None else default for name, default in fields.items()}


def test_what_redis_needs_is_told_as_the_readme_tells_it() -> None:
    for told in (r"^ACL SETUSER .+$", r"The whole suite has run on these servers, and on no others: .+[.]$"):
        (line,) = re.findall(told, README, re.MULTILINE)
        assert line in TEXTS["redis"]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """Of mkdocs."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    spec = importlib.util.spec_from_file_location("docs_hooks", CHECKOUT / "scripts" / "lib" / "docs_hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_of_the_command_line_is_what_help_prints(hooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "82")
    page = "".join(hooks.help_page(hooks.COMMANDS["ledger"], "ledger"))
    assert page.startswith("# budgetguard ledger\n") and "\n## budgetguard ledger drain\n" in page
    assert "  --follow                   Go on as new rows come" in page


def test_every_event_is_told_with_its_name_level_and_fields(hooks: ModuleType) -> None:
    parts = "".join(map(hooks.event_part, hooks.EVENTS))
    assert "::: budgetguard.events.Delayed\n" in parts and "::: budgetguard.alerts.raised.AlertRaised\n" in parts
    assert "`budget.delayed`, info: `reservation_id`, `subject`, `waited_ms`\n" in parts
    assert len(hooks.EVENTS) > 25 and parts.count("::: ") == len(hooks.EVENTS)


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ('<script src="https://cdn.example.com/x.js"></script>', ["https://cdn.example.com/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example.com/css">', ["//fonts.example.com/css"]),
        ("@import url(https://fonts.example.com/css);", ["https://fonts.example.com/css"]),
        ("a { background: url('https://example.com/a.png') }", ["https://example.com/a.png"]),
        ('<a href="https://example.com">x</a> <script src="assets/x.js"></script>', []),
        ('<link rel="next" href="https://example.com/next/">', []),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(hooks: ModuleType, text: str, loads: list[str]) -> None:
    assert hooks.elsewhere(text) == loads
