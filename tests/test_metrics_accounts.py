"""What stands in a store, as gauges: from the ASGI application, and from `budgetguard metrics`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest
from cli_kit import CHECKOUT, HOSTILE, fill
from guard_kit import ESTIMATE, USAGE, LossyStore, World, run_script
from metrics_kit import Samples, Served, samples
from redis_world import RedisWorld

import budgetguard as bg
from budgetguard.cli.app import run
from budgetguard.metrics_accounts import MOST_ACCOUNTS, asgi_app


async def scraped(guard: bg.Guard) -> Samples:
    """What the ASGI application of a guard answers."""
    transport = httpx.ASGITransport(asgi_app(guard))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
        answer = await client.get("/metrics", headers={"accept": "text/plain"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.text)


def labels(**of: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(of.items()))


def test_every_account_is_told_with_its_limit_in_whole_units(world: World) -> None:
    async def main() -> None:
        budgets = [
            bg.Budget("all", ["$5/day", "9k input_tokens/rolling 10 minutes", "20 concurrent"]),
            bg.Budget("each", ["100 requests/total"], per=["agent", "team"]),
        ]
        async with world.guard(budgets=budgets, timezone="Europe/Berlin") as guard:
            await (await guard.reserve(model="acme-1", agent="a", estimate=ESTIMATE)).settle(USAGE)
            hold = await guard.reserve(model="acme-1", agent="b", team="t", estimate=ESTIMATE)
            found = await scraped(guard)
            await hold.release()
        usd = labels(budget="all", unit="usd", period="day", zone="Europe/Berlin")
        rolling = labels(budget="all", unit="input_tokens", period="rolling 10 minutes")
        at_once = labels(budget="all", unit="concurrent")
        each = {"budget": "each", "unit": "requests", "period": "total", "per": "agent,team"}
        assert found == {
            ("store_up", ()): 1,
            ("account_limit_usd", usd): 5,
            ("account_spent_usd", usd): 0.0007,
            ("account_reserved_usd", usd): 0.001,
            ("account_limit_tokens", rolling): 9_000,
            ("account_spent_tokens", rolling): 500,
            ("account_reserved_tokens", rolling): 600,
            ("account_limit_requests", at_once): 20,
            ("account_spent_requests", at_once): 0,
            ("account_reserved_requests", at_once): 1,
            **{("accounts_left_out", key): 0 for key in (usd, rolling, at_once, labels(**each))},
            **{
                (f"account_{what}_requests", labels(**each, **per)): amount
                for per, amounts in (({"agent": "a"}, (100, 1, 0)), ({"agent": "b", "team": "t"}, (100, 0, 1)))
                for what, amount in zip(("limit", "spent", "reserved"), amounts, strict=True)
            },
        }

    asyncio.run(main())


def test_a_label_that_is_missing_and_one_that_says_so_are_two_accounts(world: World) -> None:
    async def main() -> None:
        async with world.guard(budgets=[bg.Budget("each", ["9 requests/day"], per=["agent"])]) as guard:
            await (await guard.reserve(agent="(none)")).settle(USAGE)
            for _ in range(2):
                await (await guard.reserve()).settle(USAGE)
            found = await scraped(guard)
        spent = {dict(of).get("agent"): amount for (name, of), amount in found.items() if name.startswith("account_sp")}
        assert spent == {"(none)": 1, None: 2}

    asyncio.run(main())


def test_of_many_accounts_the_fullest_are_shown_and_the_others_counted(world: World) -> None:
    async def main() -> None:
        async with world.guard(budgets=[bg.Budget("each", ["9k tokens/day"], per=["agent"])]) as guard:

            async def call(number: int) -> None:
                await (await guard.reserve(agent=f"a{number}", estimate=ESTIMATE)).settle(bg.Usage(number, 0))

            await asyncio.gather(*map(call, range(MOST_ACCOUNTS + 3)))
            found = await scraped(guard)
        shown = {dict(of)["agent"] for name, of in found if name == "account_spent_tokens"}
        assert shown == {f"a{number}" for number in range(3, MOST_ACCOUNTS + 3)}
        assert [amount for (name, _), amount in found.items() if name == "accounts_left_out"] == [3]

    asyncio.run(main())


def test_hostile_labels_come_back_as_they_were(world: World) -> None:
    hostile = 'x"} 1\nbudgetguard_store_up 9\\\x00\x1b[31m\u202e'

    async def main() -> None:
        budget = bg.Budget(hostile, ["9 requests/day"], per=[hostile])
        async with world.guard(budgets=[budget]) as guard:
            await (await guard.reserve(labels={hostile: hostile})).settle(USAGE)
            found = await scraped(guard)
        (account,) = [dict(of) for name, of in found if name == "account_spent_requests"]
        (name,) = account.keys() - {"budget", "unit", "period", "zone", "per"}
        assert (account["budget"], account["per"], account[name]) == (hostile,) * 3
        assert name.startswith("label_x_22_") and name.isidentifier()
        assert found["store_up", ()] == 1

    asyncio.run(main())


def test_a_store_that_cannot_be_read_is_down_and_nothing_else_is_told(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        async with world.guard("$5/day", store=store) as guard:
            store.refused = {"read_accounts"}
            assert await scraped(guard) == {("store_up", ()): 0}
            store.refused = set()
            assert (await scraped(guard))["store_up", ()] == 1
        assert await scraped(guard) == {("store_up", ()): 0}, "the guard is closed"

    asyncio.run(main())


def test_rows_that_nobody_drained_are_told(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.guard("9k tokens/day", store=redis_world.store(outbox_max=70)) as guard:
            for _ in range(3):
                await (await guard.reserve(estimate=ESTIMATE)).settle(USAGE)
            found = await scraped(guard)
        assert (found["outbox_entries", ()], found["outbox_most_entries", ()]) == (3, 70)

    asyncio.run(main())


def test_what_is_no_http_request_is_told_apart(world: World) -> None:
    async def main() -> None:
        async with world.guard("$5/day") as guard:
            with pytest.raises(ValueError, match="answers http, not lifespan"):
                await asgi_app(guard)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_the_command_serves_the_accounts_as_they_stand_and_ends_when_it_is_told(place: Path) -> None:
    served = Served(place)
    found = served.scraped()
    per_agent = {"budget": "each-agent", "unit": "tokens", "period": "total", "per": "agent"}
    assert found["account_spent_tokens", labels(**per_agent, agent=HOSTILE)] == 499_999
    assert found["account_limit_tokens", labels(**per_agent, agent="crawler")] == 500_000
    team = labels(budget="search-team", unit="usd", period="total")
    assert found["account_spent_usd", team] == pytest.approx(7.493100007, abs=1e-12)
    assert found["account_reserved_usd", team] == pytest.approx(0.0142)

    policy = place / "budgetguard.toml"
    policy.write_text(policy.read_text(encoding="utf-8").replace("$50/total", "$60/total"), encoding="utf-8")
    assert served.scraped()["account_limit_usd", team] == 60
    policy.write_text("mode = 1\n", encoding="utf-8")
    for _ in range(2):
        assert served.scraped() == {("store_up", ()): 0}
    code, said = served.end()
    assert code == 0
    assert said.splitlines()[0] == f"serving http://127.0.0.1:{served.port}/metrics until Ctrl-C"
    assert said.count("mode") == 1, "the same trouble is told once"


def test_of_a_store_without_a_policy_what_is_spent_is_told_but_no_limit(place: Path) -> None:
    (place / "budgetguard.toml").unlink()
    served = Served(place, "--store", "sqlite:///budgets.db")
    found = served.scraped()
    team = labels(budget="search-team", unit="tokens", period="total")
    assert found["account_spent_tokens", team] == 619_999
    assert not [name for name, _ in found if "limit" in name]
    assert served.end()[0] == 0


def test_the_command_refuses_a_port_that_is_taken_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["metrics", "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"127.0.0.1:{port}: nothing can be served there: ")


@pytest.mark.parametrize(("show", "file"), [("rules", "rules.yml"), ("dashboard", "dashboard.json")])
def test_the_command_prints_what_is_shipped(capsys: pytest.CaptureFixture[str], show: str, file: str) -> None:
    assert run(["metrics", "--show", show]) == 0
    shipped = (CHECKOUT / "budgetguard" / "monitoring" / file).read_text(encoding="utf-8")
    assert capsys.readouterr() == (shipped, "")


def test_who_lacks_the_client_is_told_what_to_install(tmp_path: Path) -> None:
    done = run_script(
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from budgetguard.cli.app import run; sys.exit(run(['metrics']))",
        tmp_path,
    )
    assert (done.returncode, "pip install 'llm-budgetguard[prometheus]'" in done.stderr) == (2, True)
