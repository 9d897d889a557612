"""`[alerts]` and `[[alert]]` of a policy, the command that tries them out, and scripts that end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from alert_kit import Hooks
from cli_kit import command
from guard_kit import run_script

from budgetguard.errors import ConfigError
from budgetguard.policy_file import parse_policy
from budgetguard.testing.reply import Reply


def test_a_policy_says_thresholds_and_routes_and_its_faults_show_no_secret() -> None:
    text = """
    [alerts]
    request_tokens = 100
    burn_rate = false
    [[budget]]
    name = "all"
    limits = ["$5/day"]
    [[alert]]
    url = "${HOOK}"
    kind = "slack"
    where = { team = "search" }
    secret = "0123456789abcdef"
    causes = ["burn_rate", "threshold"]
    """
    env = {"HOOK": "https://hooks.example.com/T1/SECRET"}
    alerts = parse_policy(text, "p", env, Path()).alerts
    assert (alerts.request_tokens, alerts.burn_rate, alerts.drift) == (100, False, True)
    assert str(alerts.routes[0]) == "slack https://hooks.example.com"
    assert (alerts.routes[0].url, alerts.routes[0].causes) == (env["HOOK"], ("burn_rate", "threshold"))
    wrong = """
    [alerts]
    request_tokens = 0
    burn_rat = 1
    drift = 3
    error_share = true
    [[alert]]
    url = "hooks.example.com/SECRET"
    where = { taem = "search" }
    kind = "irc"
    secret = "tooSECRET"
    causes = ["burn_rat"]
    [[alert]]
    """
    with pytest.raises(ConfigError) as error:
        parse_policy(wrong, "p", {}, Path())
    assert [fault.split(" ")[0] for fault in error.value.faults] == [
        "alerts.burn_rat", "alerts.request_tokens", "alerts.error_share", "alerts.drift", "alert[0].url",
        "alert[0].kind", "alert[0].secret", "alert[0].causes[0]", "alert[1].url", "alert[0].where.taem:",
    ]  # fmt: skip
    assert "SECRET" not in str(error.value)
    for misplaced in ('alert = "https://h/SECRET"', 'alert = ["https://h/SECRET"]'):
        with pytest.raises(ConfigError, match=r"write \[\[alert\]\]") as error:
            parse_policy(misplaced, "p", {}, Path())
        assert "SECRET" not in str(error.value)


def test_the_command_posts_to_every_route_and_says_what_came_back(tmp_path: Path) -> None:
    hooks = Hooks(Reply(200), Reply(403))
    other = Hooks(Reply(204))

    async def play() -> None:
        async with hooks, other:
            routes = f'[[alert]]\nurl = "{hooks.url()}"\n[[alert]]\nurl = "{other.url()}"\nkind = "teams"\n'
            (tmp_path / "budgetguard.toml").write_text(f"{routes}where = {{ team = 'search' }}\n", encoding="utf-8")
            done = await asyncio.to_thread(command, tmp_path, "alerts", "test")
            assert (done.code, done.err) == (0, "")
            assert "SECRETPATH" not in done.out
            title, first, second = done.out.splitlines()
            assert title.split() == ["route", "alerts", "about", "causes", "what", "came", "back", "took"]
            assert first.split()[:6] == ["json", f"http://127.0.0.1:{hooks.port}", "all", "all", "taken", "(200)"]
            assert second.split()[:4] == ["teams", f"http://127.0.0.1:{other.port}", "team=search", "all"]
            failed = await asyncio.to_thread(command, tmp_path, "alerts", "test", "--format", "json")
            assert failed.code == 1
            assert [(found["delivered"], found["answer"]) for found in json.loads(failed.out)] == [
                (False, "not taken: it answered 403"), (True, "taken (204)"),
            ]  # fmt: skip
            one = await asyncio.to_thread(
                command, tmp_path, "alerts", "test", "--url", other.url("/x"), "--kind", "slack"
            )
            assert one.code == 0
            wrong = await asyncio.to_thread(command, tmp_path, "alerts", "test", "--url", "SECRET")
            assert (wrong.code, "--url must be a URL" in wrong.err, "SECRET" in wrong.err) == (2, True, False)

    asyncio.run(play())
    assert hooks.causes() == ["test", "test"]
    assert other.requests[-1].path == "/x"
    (tmp_path / "budgetguard.toml").write_text("", encoding="utf-8")
    none = command(tmp_path, "alerts", "test")
    assert (none.code, "[[alert]]" in none.err) == (2, True)


@pytest.mark.parametrize(
    ("ends", "posted"),
    [("asyncio.run(play())", True), ("play_sync()", True), ("loop.run_until_complete(play()); loop.close()", False)],
    ids=["asyncio.run", "sync", "a loop that is closed"],
)
def test_a_script_that_closes_nothing_still_sends_or_tells_what_was_raised(
    tmp_path: Path, ends: str, posted: bool
) -> None:
    script = f"""
import asyncio, sys
import budgetguard as bg

alerts = bg.AlertSettings(routes=[bg.AlertRoute(sys.argv[1])])
guard = bg.Guard("1B tokens/day", store="sqlite:///budgets.db", alerts=alerts)
loop = asyncio.new_event_loop()

async def play():
    async with guard.reserve(agent="a", estimate=bg.Usage(9_000, 0)) as hold:
        hold.record(bg.Usage(9_000, 0))

def play_sync():
    with guard.sync.reserve(agent="a", estimate=bg.Usage(9_000, 0)) as hold:
        hold.record(bg.Usage(9_000, 0))

{ends}
"""
    hooks = Hooks()

    async def play() -> None:
        async with hooks:
            url = hooks.url().replace("127.0.0.1", "localhost")  # a name, which must be looked up
            done = await asyncio.to_thread(run_script, script, tmp_path, None, [url])
            assert done.returncode == 0
            assert done.stderr.count("budget.alert_raised") == 1
            assert ("budget.alerts_undelivered route=all count=1" in done.stderr) is not posted
            assert "SECRET" not in done.stderr

    asyncio.run(play())
    assert hooks.causes() == (["large_request"] if posted else [])


def test_a_function_that_never_returns_keeps_no_process_from_ending(tmp_path: Path) -> None:
    script = """
import asyncio, threading
import budgetguard as bg
from budgetguard.alerts import alerting

alerting.LAST_S = 0.2

def stuck(alert):
    threading.Event().wait()

async def play():
    async with bg.Guard("1B tokens/day", store="sqlite:///budgets.db", on_alert=[stuck]) as guard:
        async with guard.reserve(agent="a", estimate=bg.Usage(9_000, 0)) as hold:
            hold.record(bg.Usage(9_000, 0))

asyncio.run(play())
"""
    done = run_script(script, tmp_path)
    assert done.returncode == 0
    assert "budget.alerts_undelivered route=stuck count=1" in done.stderr
