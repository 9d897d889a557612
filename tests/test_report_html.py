"""The HTML report in a real Chromium: charts are drawn, nothing is logged, nothing is asked of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import Browser, browsing
from cli_kit import command
from drain_kit import NAMESPACE, row
from report_kit import HOSTILE, fill, generated, hostile_rows
from store_kit import DAY_MS, NOON_MS

from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.refusal import escaped

WINDOWS = ((1280, False), (1280, True), (390, False))
LOOK = """
(() => {
  const shown = [...document.querySelectorAll("svg")].filter(one => one.getBoundingClientRect().width > 0);
  const box = one => { const at = one.getBoundingClientRect(); return [at.width, at.height, at.left, at.right] };
  return {
    charts: Object.fromEntries(shown.map(one => [one.id, {
      box: box(one),
      named: one.getAttribute("aria-labelledby").split(" ").map(id => document.getElementById(id).textContent),
      bars: [...one.querySelectorAll("rect:not(.track)")].map(bar => (
        {box: box(bar), fill: getComputedStyle(bar).fill, said: bar.querySelector("title").textContent}
      )),
    }])),
    tables: [...document.querySelectorAll("section table")].map(one => one.rows.length),
    wide: document.documentElement.scrollWidth - innerWidth,
    page: getComputedStyle(document.body).backgroundColor,
    policy: document.querySelector("meta[http-equiv=Content-Security-Policy]").content,
    strange: document.querySelectorAll("script,img,a,iframe,link,object,embed,form,b,base").length,
    text: document.body.innerText,
    right: [...document.querySelectorAll("td")].every(one => getComputedStyle(one).textAlign === "right"),
  };
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as one:
        yield one


def written(folder: Path, *more: str) -> Path:
    """The report of the ledger in this folder."""
    named = ("--ledger", "sqlite:///l.db", "--namespace", NAMESPACE, "--since", "2026-11-02", "--until", "2026-11-23")
    done = command(folder, "report", *named, "--format", "html", "-o", "report.html", *more)
    assert (done.code, done.out) == (0, ""), done.err
    return folder / "report.html"


def looked_at(browser: Browser, path: Path, width: int, dark: bool = False) -> Any:
    """What a user sees; and that the page kept to itself."""
    browser.open(path, width, dark=dark)
    assert browser.complaints() == []
    assert browser.requested() == [path.as_uri()]
    return browser.evaluate(LOOK)


def test_charts_are_drawn_for_every_screen_and_the_page_keeps_to_itself(browser: Browser, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'l.db'}", list(generated(600)))
    path, pages = written(tmp_path, "--by", "team,agent", "--verify"), set()
    for width, dark in WINDOWS:
        seen = looked_at(browser, path, width, dark)
        over_time = "over-time-wide" if width > 720 else "over-time-narrow"
        assert set(seen["charts"]) == {over_time, "cost-bars", "token-bars"}
        for chart in seen["charts"].values():
            assert chart["box"][0] > 300 and chart["box"][1] > 100, "it has a size"
            assert all(bar["box"][0] > 0 and bar["box"][1] > 0 for bar in chart["bars"])
            assert all(chart["named"]) and "rgb(0, 0, 0)" not in {bar["fill"] for bar in chart["bars"]}
        assert len(seen["charts"][over_time]["bars"]) > 60, "21 days of 4 teams"
        assert seen["wide"] <= 0, "nothing has to be moved sideways but tables"
        assert seen["right"] and min(seen["tables"]) > 10
        assert "default-src 'none'" in seen["policy"] and seen["strange"] == 0
        pages.add(seen["page"])
    assert len(pages) == 2, "dark is another colour"


def test_bars_are_as_long_as_what_they_show(browser: Browser, tmp_path: Path) -> None:
    def call(id: str, team: str, day: int, nanousd: int, prompt: int) -> Any:
        usage = UsageRow(prompt, 100, 50, 0, 0, nanousd)
        at_ms = NOON_MS - day * DAY_MS
        return row(id, info=CallInfo({"team": team}), usage=usage, timestamp_ms=at_ms)

    fill(
        f"sqlite:///{tmp_path / 'l.db'}",
        [call("a", "search", 0, 3 * 10**9, 300), call("b", "ads", 0, 10**9, 900), call("c", "ads", 9, 10**9, 100)],
    )
    seen = looked_at(browser, written(tmp_path), 1280)
    search, ads = (bar["box"][0] for bar in seen["charts"]["cost-bars"]["bars"])
    assert search / ads == pytest.approx(3 / 2, rel=0.01)
    kinds = [bar["box"][0] for bar in seen["charts"]["token-bars"]["bars"]]
    assert [round(one / kinds[1]) for one in kinds] == [5, 1, 2, 18, 2, 4], "input, cache read, output of each"
    columns = {bar["said"]: bar["box"] for bar in seen["charts"]["over-time-wide"]["bars"]}
    assert set(columns) == {
        "2026-11-13, ads, $1.0000", "2026-11-22, search, $3.0000", "2026-11-22, ads, $1.0000"
    }  # fmt: skip
    assert columns["2026-11-22, search, $3.0000"][1] == pytest.approx(
        3 * columns["2026-11-22, ads, $1.0000"][1], rel=0.02
    )
    assert "$5.0000" in seen["text"] and "1.4k in, 300 out" not in seen["text"] and "1.3k in, 300 out" in seen["text"]


def test_hostile_labels_stay_text(browser: Browser, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'l.db'}", hostile_rows())
    path = written(tmp_path, "--by", "team,agent", "--where", "team=*")
    for width in (1280, 390):
        seen = looked_at(browser, path, width)
        assert seen["strange"] == 0 and seen["wide"] <= 0
        words = " ".join(seen["text"].split())
        assert [label for label in HOSTILE if " ".join(escaped(label).split()) not in words] == []


def test_an_empty_report_is_a_page_too(browser: Browser, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'l.db'}", [row("r", timestamp_ms=NOON_MS - 99 * DAY_MS)])
    seen = looked_at(browser, written(tmp_path), 390)
    assert (seen["charts"], seen["tables"]) == ({}, [2]) and "(total)" in seen["text"]


def test_this_browser_tells_what_a_page_asks_and_logs(browser: Browser, tmp_path: Path) -> None:
    """So that its silence says something."""
    path = tmp_path / "loud.html"
    path.write_text('<!doctype html><img src="http://127.0.0.1:1/x.png"><script>console.error("no")</script>')
    browser.open(path)
    assert browser.requested() == [path.as_uri(), "http://127.0.0.1:1/x.png"]
    assert "no" in json.dumps(browser.complaints()) and len(browser.complaints()) == 2
