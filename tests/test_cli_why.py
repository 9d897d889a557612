"""`budgetguard why`: the limit in the way, who has filled it, and what an id was; on both stores, for any label."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cli_kit import HOSTILE, Ended, command, shown
from drain_kit import row
from redis_kit import RedisServer
from store_kit import DAY_MS, HOUR_MS, amounts, info, usage

import budgetguard as bg
from budgetguard.ledger import open_ledger

POLICY = """
[store]
url = "{url}"
namespace = "{namespace}"
[labels]
known = ["team", "agent", "tenant"]
[[budget]]
name = "search-team"
where = {{ team = "search" }}
limits = ["1M tokens/rolling 24 hours", "$900/month", "20 concurrent"]
[[budget]]
name = "each-agent"
per = ["agent"]
limits = ["5_000 tokens/total"]
[[price]]
model = "acme-1"
usd_per_mtok = {{ input = "1", output = "2" }}
"""
LEDGER = '[ledger]\nurl = "sqlite:///ledger.db"\n'
DAY_SPAN_MS = DAY_MS + 1


def call(team: str, agent: str, tokens: int) -> dict[str, Any]:
    return {"team": team, "agent": agent, "model": "acme-1", "estimate": bg.Usage(tokens, 0)}


class Place:
    """A policy and its store, on which some have spent, one has a hold open, and others were refused."""

    def __init__(self, folder: Path, url: str, namespace: str, ledger: str = "") -> None:
        self.folder, self.namespace = folder, namespace
        (folder / "budgetguard.toml").write_text(POLICY.format(url=url, namespace=namespace) + ledger, encoding="utf-8")
        self.ids: dict[str, str] = {}
        asyncio.run(self._spend())

    async def _spend(self) -> None:
        async with bg.Guard.from_toml(self.folder / "budgetguard.toml") as guard:
            for agent, tokens in (("crawler", 4_000), ("crawler", 900), (HOSTILE, 50)):
                async with guard.reserve(**call("search", agent, tokens)) as hold:
                    hold.record(bg.Usage(tokens, 0))
                self.ids.setdefault("settled", hold.id)
            for team, agent in (("search", "crawler"), ("search", "crawler"), ("ads", "writer")):
                with pytest.raises(bg.BudgetExceeded) as refused:
                    await guard.reserve(**call(team, agent, 9_000 if agent == "writer" else 500))
                self.ids[agent] = refused.value.reservation_id
            self.open = await guard.reserve(**call("search", "planner", 700))
            self.ids["held"] = self.open.id

    async def _spend_more(self) -> None:
        async with (
            bg.Guard.from_toml(self.folder / "budgetguard.toml") as guard,
            guard.reserve(**call("search", "crawler", 1)) as hold,
        ):
            hold.record(bg.Usage(1, 0))

    def why(self, *args: str, **more: str) -> Ended:
        return command(self.folder, "why", *args, **more)

    def told(self, *args: str) -> dict[str, Any]:
        done = self.why("--format", "json", *args)
        assert done.code == 0, done
        found: dict[str, Any] = json.loads(done.out)
        return found


@pytest.fixture
def sqlite(tmp_path: Path, state_home: None) -> Place:
    place = Place(tmp_path, "sqlite:///budgets.db", "prod")
    past = [
        row(
            id, timestamp_ms=_ago_ms(days * DAY_MS), usage=usage(amounts(tokens)),
            info=info(amounts(1), team=team, agent="crawler", model="acme-1"),
        )
        for id, days, team, tokens in (("p1", 3, "search", 70_000), ("p2", 9, "search", 10**6), ("p3", 2, "ads", 10**6))
    ]  # fmt: skip
    ledger = open_ledger(f"sqlite:///{tmp_path / 'budgets.db'}")
    ledger.write([("prod", one) for one in past])
    ledger.close()
    return place


@pytest.fixture
def redis(tmp_path: Path, state_home: None, redis_server: RedisServer, namespace: str) -> Place:
    return Place(tmp_path, redis_server.url, namespace)


def _ago_ms(span_ms: int) -> int:
    return time.time_ns() // 1_000_000 - span_ms


def test_the_limit_that_has_refused_is_told_with_all_that_fills_it(sqlite: Place) -> None:
    found = sqlite.told("--team", "search", "--agent", "crawler")
    first = found["accounts"][0]
    assert (first["budget"], first["subject"], first["limit"]) == ("each-agent", {"agent": "crawler"}, 5_000)
    assert (first["spent"], first["reserved"], first["available"]) == (4_900, 0, 100)
    assert (first["refused_calls"], first["resets_at"]) == (2, None)
    (spender,) = found["spenders"]
    # The account counts the agent whatever its team: "ads" was its, too, in the week before the last 24 hours.
    usual = (70_000 + 10**6) * DAY_SPAN_MS // (7 * DAY_MS)
    assert (spender["agent"], spender["calls"], spender["spent"], spender["usual"]) == ("crawler", 2, 4_900, usual)
    (refused,) = found["refusals"]
    assert (refused["team"], refused["reason"], refused["calls"], refused["asked"]) == ("search", "spent", 2, 1_000)
    assert [one["budget"] for one in found["accounts"][1:]] == ["search-team"] * 3
    assert found["notes"] == [] and found["holds"] == []


def test_a_team_is_explained_by_those_who_act_for_it(sqlite: Place) -> None:
    found = sqlite.told("--team", "search")
    assert found["accounts"][0]["subject"] == {"agent": "crawler"}
    subjects = [one["subject"].get("agent") for one in found["accounts"]]
    assert {"crawler", "planner", HOSTILE} <= {*subjects} and "writer" not in subjects
    assert sqlite.told("--team", "ads")["accounts"][0]["subject"] == {"agent": "writer"}
    everybody = sqlite.told()
    assert {"crawler", "writer"} <= {one["subject"].get("agent") for one in everybody["accounts"]}
    assert sqlite.told("--team", "nobody")["accounts"] == []


def test_the_budget_of_a_team_counts_what_its_agents_have_spent_and_hold(sqlite: Place) -> None:
    (sqlite.folder / "budgetguard.toml").write_text(
        (sqlite.folder / "budgetguard.toml").read_text().replace("1M tokens/rolling", "5_650 tokens/rolling")
    )
    found = sqlite.told("--team", "search", "--agent", "planner")
    first = found["accounts"][0]
    assert (first["budget"], first["available"], first["reserved"]) == ("search-team", 0, 700)
    assert {one["agent"]: (one["spent"], one["usual"], one["percent"]) for one in found["spenders"]} == {
        "crawler": (4_900, 70_000 * DAY_SPAN_MS // (7 * DAY_MS), 98), HOSTILE: (50, 0, 1)
    }  # fmt: skip
    (hold,) = found["holds"]
    assert (hold["id"], hold["amount"], hold["labels"]["agent"]) == (sqlite.ids["held"], 700, "planner")
    text = sqlite.why("--team", "search", "--agent", "planner").out
    assert text.startswith("search-team: 5650 tokens/rolling day is held by open calls: calls are refused\n")
    assert "each call leaves it 1 d 0 h after its admission" in text and "0.5 times" in text


def test_a_block_is_told_for_what_it_is_and_behind_what_calls_have_filled(sqlite: Place) -> None:
    file = sqlite.folder / "budgetguard.toml"
    block = '[[budget]]\nname = "a-block"\nwhere = { team = "b*" }\nlimits = ["0 tokens/day"]\nblock = true\n'
    file.write_text(block + file.read_text().replace("1M tokens/rolling", "5_650 tokens/rolling"))
    assert sqlite.told()["accounts"][0]["budget"] == "search-team"
    told = sqlite.why("--team", "bad").out
    assert told.startswith("a-block: 0 tokens/day is a block: calls are refused\n") and "resets" not in told


def test_an_id_is_told_for_what_it_is(sqlite: Place) -> None:
    held = sqlite.told(sqlite.ids["held"])
    assert (held["reservation"]["state"], held["labels"]["agent"]) == ("held", "planner")
    assert {one["budget"] for one in held["accounts"]} == {"search-team", "each-agent"}
    settled = sqlite.told(sqlite.ids["settled"])
    assert (settled["reservation"]["state"], settled["reservation"]["total_tokens"]) == ("settled", 4_000)
    assert "4,000 tokens, $0.004" in sqlite.why(sqlite.ids["settled"]).out
    assert "was admitted and is open" in sqlite.why(sqlite.ids["held"]).out


def test_a_refused_id_is_told_by_who_was_refused_about_that_time(sqlite: Place) -> None:
    done = sqlite.why(sqlite.ids["writer"])
    assert done.code == 0 and "each-agent (agent=" in done.out and "as of a call that was refused" in done.err
    with_labels = sqlite.why(sqlite.ids["writer"], "--team", "ads", "--agent", "writer")
    assert with_labels.out.startswith("each-agent (agent=writer): 5k tokens/total has 5,000 tokens left, and has")
    assert "shown are calls with the labels that you gave" in with_labels.err
    old = f"r-{_ago_ms(HOUR_MS * 30):011x}0123456789abcde"
    for id in (old, "nobody\x1b[31m"):
        done = sqlite.why(id)
        assert (done.code, done.out) == (1, "no budget has counted such calls\n") and "Give the labels" in done.err
        assert "\x1b" not in done.out + done.err


def test_hostile_labels_are_shown_and_obeyed_by_no_terminal(sqlite: Place) -> None:
    for args in ((), ("--agent", HOSTILE), ("--team", "search")):
        done = sqlite.why(*args)
        assert done.code == 0 and "\x1b" not in done.out + done.err and "\u202e" not in done.out
    assert "writer\\x1b[31m\\u202e\\n" in sqlite.why("--agent", HOSTILE).out
    terminal, code = shown(sqlite.folder, "why", "--team", "search", columns=100)
    assert code == 0 and "writer\\x1b[31m" in terminal.text


def test_on_redis_without_a_ledger_it_tells_accounts_and_holds_and_what_is_missing(redis: Place) -> None:
    found = redis.told("--team", "search", "--agent", "planner")
    tokens = next(one for one in found["accounts"] if one["budget"] == "each-agent")
    assert (tokens["subject"], tokens["reserved"]) == ({"agent": "planner"}, 700)
    assert [one["id"] for one in found["holds"]] == [redis.ids["held"]]
    assert (found["spenders"], found["refusals"]) == ([], [])
    done = redis.why("--team", "search")
    assert "set ledger.url" in done.err and "spent since" not in done.out and done.code == 0
    assert redis.why(redis.ids["held"]).code == 0
    assert redis.why(redis.ids["settled"]).code == 1, "only a ledger knows"


def test_on_redis_with_a_ledger_it_tells_all_and_what_still_waits_to_be_drained(
    tmp_path: Path, state_home: None, redis_server: RedisServer, namespace: str
) -> None:
    place = Place(tmp_path, redis_server.url, namespace, LEDGER)
    found = place.told("--agent", "crawler")
    assert found["accounts"][0]["refused_calls"] == 2 and found["spenders"][0]["spent"] == 4_900
    assert found["notes"] == []
    policy = place.folder / "budgetguard.toml"
    policy.write_text(policy.read_text().replace(LEDGER, ""))
    asyncio.run(place._spend_more())
    policy.write_text(policy.read_text() + LEDGER)
    (text,) = place.told("--agent", "crawler")["notes"]
    assert "wait to be drained" in text


def test_in_shadow_mode_it_says_that_nothing_is_refused(sqlite: Place) -> None:
    policy = sqlite.folder / "budgetguard.toml"
    policy.write_text('mode = "shadow"\n' + policy.read_text().replace("5_000 tokens", "4_900 tokens"))
    done = sqlite.why("--agent", "crawler")
    assert "4900 tokens/total is spent: calls would be refused" in done.out and 'mode = "shadow"' in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--label", "tenant"], "write name=text"),
        (["--label", "team=a", "--team", "b"], "team is given twice"),
        (["--label", "tennant=a"], "did you mean"),
        (["--team", ""], "must be text of 1 to 512"),
        (["--ledger", "mysql://x"], "--ledger"),
        (["--config", "none.toml"], "none.toml"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(sqlite: Place, args: list[str], said: str) -> None:
    done = sqlite.why(*args)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
