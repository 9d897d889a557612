"""`budgetguard doctor` on a SQLite store: what it finds, keeps, compares and sets."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_kit import POLICY, Ended, command, fill, shown
from doctor_kit import History, sums
from lua_raw import seed_of
from store_kit import NOON_MS, release

from budgetguard.core.model import Balance
from budgetguard.doctor.comparing import read_evidence
from budgetguard.doctor.findings import without_secrets
from budgetguard.errors import ConfigError
from budgetguard.stores import open_spool
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.stores.sqlite.mending import SQLiteBooks
from budgetguard.stores.sqlite.schema import SCHEMA
from budgetguard.testing.clock import FakeClock

SECRET = "s3cret-of-somebody"


def found_by(ended: Ended) -> dict[str, tuple[str, str]]:
    """Of `--format json`: state and text of each check."""
    return {check["name"]: (check["state"], check["found"]) for check in json.loads(ended.out)["checks"]}


def change(folder: Path, statement: str, *bindings: Any) -> None:
    """Write into the store behind its back."""
    with closing(apsw.Connection(str(folder / "budgets.db"))) as db:
        db.set_busy_timeout(5_000)
        db.execute(statement, bindings)


def test_a_store_that_is_well_is_found_so_and_nothing_is_changed(tmp_path: Path) -> None:
    fill(tmp_path)
    ended = command(tmp_path, "doctor", "--format", "json")
    assert (ended.err, ended.code) == ("", 0)
    checks = found_by(ended)
    assert {state for state, _ in checks.values()} == {"ok"}
    assert checks["spent"][1] == "7 accounts = 2 rows"
    assert checks["reserved"][1] == "7 accounts = 1 open reservation"
    evidence = json.loads(ended.out)
    assert evidence["ok"] and evidence["versions"]["sqlite"] == apsw.sqlite_lib_version()
    assert (evidence["ledger"]["schema"], evidence["ledger"]["rows"]) == (SCHEMA, 2)
    assert evidence["program"]["command"] == ["budgetguard", "doctor", "--format", "json"]
    assert [budget["limits"] for budget in evidence["config"]["policy"]["budgets"]] == [
        ["5M tokens/total", "$50/total", "20 concurrent"], ["500k tokens/total", "$5/month"]
    ]  # fmt: skip
    table = command(tmp_path, "doctor")
    assert table.code == 0 and "7 accounts = 1 open reservation" in table.out
    fixed = command(tmp_path, "doctor", "--fix")
    assert (fixed.err, fixed.code) == ("all agree: nothing was changed\n", 0)


def test_accounts_that_differ_are_named_and_set_to_what_the_ledger_tells(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "UPDATE accounts SET spent = spent + 7 WHERE budget = 'search-team' AND unit = 'tokens'")
    change(tmp_path, "UPDATE accounts SET spent = 1 WHERE unit = 'usd' AND per LIKE '%crawler%'")
    change(tmp_path, "UPDATE accounts SET reserved = 3 WHERE unit = 'concurrent'")
    ended = command(tmp_path, "doctor", "--format", "json")
    checks = found_by(ended)
    assert ended.code == 1
    assert checks["spent"][0] == checks["reserved"][0] == "failed"
    assert "search-team tokens/total 620,006 tokens, told 619,999 tokens" in checks["spent"][1]
    assert "search-team concurrent 3 concurrent, told 1 concurrent" in checks["reserved"][1]
    fixed = command(tmp_path, "doctor", "--fix", "--format", "json")
    assert fixed.code == 0 and {state for state, _ in found_by(fixed).values()} == {"ok"}
    assert "search-team tokens/total: spent 620,006 tokens -> 619,999 tokens\n" in fixed.err
    assert "each-agent agent=crawler usd/month" in fixed.err and "-> $2.50\n" in fixed.err
    assert "search-team concurrent: reserved 3 concurrent -> 1 concurrent\n" in fixed.err


def test_what_has_changed_since_is_shown(tmp_path: Path) -> None:
    fill(tmp_path)
    assert command(tmp_path, "doctor", "--format", "json", "-o", "then.json").out == ""
    same = command(tmp_path, "doctor", "--compare", "then.json")
    assert (same.code, same.out.splitlines()[-1]) == (0, "nothing has changed since")
    text = POLICY.replace("$50/total", "$60/total").replace("5M tokens/total", "5M tokens/day") + (
        '[[price]]\nmodel = "acme-1"\nusd_per_mtok = { input = "1", output = "2" }\n'
    )
    (tmp_path / "budgetguard.toml").write_text(text)
    change(tmp_path, "UPDATE accounts SET spent = spent - 5 WHERE budget = 'search-team' AND unit = 'tokens'")
    ended = command(tmp_path, "doctor", "--compare", "then.json", "--format", "json")
    changes = {one["what"]: (one["before"], one["now"]) for one in json.loads(ended.out)["changes"]}
    assert changes == {
        "config.policy.budgets[search-team].limits": (
            '["5M tokens/total", "$50/total", "20 concurrent"]', '["5M tokens/day", "$60/total", "20 concurrent"]'
        ),
        "prices.own[acme-1].model": ("-", "acme-1"),
        "prices.own[acme-1].usd_per_mtok.input": ("-", "1"),
        "prices.own[acme-1].usd_per_mtok.output": ("-", "2"),
        "prices.own[acme-1].usd_per_request": ("-", "null"),
        "prices.own[acme-1].valid_from": ("-", "null"),
        "check spent": ("ok", "failed"),
        'drift of spent, ["search-team",[],"tokens","total",""]': ("-", "-5"),
    }  # fmt: skip


def test_no_secret_is_kept(tmp_path: Path) -> None:
    fill(tmp_path)
    policy = POLICY.replace("[labels]", f'timeout = "50ms"\n[ledger]\nprompt_key = "{SECRET * 2}"\n[labels]')
    (tmp_path / "budgetguard.toml").write_text(policy)
    where = ("--store", f"redis://user:{SECRET}@127.0.0.1:1/0", "--ledger",
             f"postgresql://user:{SECRET}@127.0.0.1:1/books?password={SECRET}")  # fmt: skip
    for more in ((), where):
        ended = command(tmp_path, "doctor", "--format", "json", "-o", "kept.json", *more, BUDGETGUARD_X=SECRET)
        kept = (tmp_path / "kept.json").read_text()
        assert "prompts_are_hashed" in kept and SECRET not in kept + ended.out + ended.err
    assert ended.code == 1


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:{}@host/0", "redis://user:in two words {}@host/0", "postgresql://user:a@b/{}@host/books",
        "unix://user:{}@/run/redis.sock", "--ledger=postgresql://host/books?password={} in two&sslmode=require",
        "redis+sentinel://user:{0}@a,b/master/0?sentinel_password={0}",
    ],
)  # fmt: skip
def test_no_url_is_kept_with_its_password(text: str) -> None:
    """Nor one that cannot be read."""
    kept = without_secrets(text.format(SECRET))
    assert SECRET not in kept and "***" in kept
    assert without_secrets("sqlite:///home/me@work/books.db") == "sqlite:///home/me@work/books.db"


def test_a_policy_that_is_wrong_and_a_store_that_is_not_there_are_findings(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text('mode = "strict"\n')
    wrong = command(tmp_path, "doctor", "--format", "json")
    assert wrong.code == 1 and found_by(wrong)["policy"][0] == "failed" and "mode" in found_by(wrong)["policy"][1]
    (tmp_path / "budgetguard.toml").write_text(POLICY)
    none = command(tmp_path, "doctor", "--format", "json")
    assert none.code == 0 and found_by(none)["store"][0] == "warning"
    assert not (tmp_path / "budgets.db").exists()
    (tmp_path / "budgets.db").write_bytes(b"no database at all" * 100)
    broken = command(tmp_path, "doctor", "--format", "json")
    assert broken.code == 1 and found_by(broken)["store"][0] == "failed"


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[1]", "no json", '{"budgetguard_doctor": 99}', '{"budgetguard_doctor": 1}', "\ud8ff",
        pytest.param("[" * 100_000, id="deep"), '{"budgetguard_doctor": 1, "checks": [{}], "accounts": []}',
        '{"budgetguard_doctor": 1, "checks": [], "accounts": [7]}',
    ],
)  # fmt: skip
def test_what_is_no_evidence_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "then.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError) as caught:
        read_evidence(path)
    (fault,) = caught.value.faults
    assert fault.startswith((f"{path} is no evidence", f"{path} has format 99"))


def test_a_file_to_compare_with_is_read_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "then.json").write_text("{}")
    ended = command(tmp_path, "doctor", "--compare", "then.json", "--fix")
    assert ended.code == 2 and ended.err.startswith("--compare: then.json is no evidence")


def test_a_hostile_label_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "UPDATE accounts SET spent = 1 WHERE per LIKE '%writer%'")
    terminal, code = shown(tmp_path, "doctor")
    assert code == 1 and "writer" in terminal.text
    assert "\x1b[31m\u202e" not in terminal.raw and "\u202e" not in terminal.raw
    fixed = command(tmp_path, "doctor", "--fix", "--format", "csv")
    assert "\x1b" not in fixed.out + fixed.err and "\u202e" not in fixed.out + fixed.err


@pytest.mark.parametrize("number", range(2))
def test_after_any_history_the_accounts_are_what_ledger_and_holds_tell_and_are_made_so_again(
    tmp_path: Path, request: pytest.FixtureRequest, number: int
) -> None:
    """Whatever is done to them: some vanish, others are changed."""
    dice, clock, path = random.Random(seed_of(request)), FakeClock(NOON_MS), tmp_path / "budgets.db"
    books = SQLiteBooks(str(path), "default", clock=clock)

    async def main() -> None:
        async with aclosing(SQLiteStore(str(path), clock=clock)) as store:
            await History(store, clock).go_on([dice.randbytes(8) for _ in range(200)])

    asyncio.run(main())
    look = books.look()
    before = sums(look.after, look)
    assert look.tally.differences(look.after) == [] and look.held and before
    balances: dict[str, Balance] = {key: balance for key, (_, balance) in look.after.items()}
    for key in dice.sample(sorted(balances), len(balances) // 2):
        if dice.random() < 0.3:
            change(tmp_path, "DELETE FROM accounts WHERE key = ?", key)
        else:
            slots = "[]" if balances[key].slots else ""
            change(tmp_path, "UPDATE accounts SET spent = ?, reserved = 9, slots = ? WHERE key = ?",
                   0 if slots else dice.randrange(5_000), slots, key)  # fmt: skip
    assert books.mend() != []
    look = books.look()
    assert sums(look.after, look) == before and books.mend() == []


def test_what_is_spent_beyond_rows_that_were_pruned_is_no_drift_and_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    with closing(apsw.Connection(str(tmp_path / "budgets.db"))) as db:
        db.execute("DELETE FROM token_usage WHERE agent = 'crawler'")
        ((spent,),) = db.execute("SELECT spent FROM accounts WHERE budget = 'search-team' AND unit = 'usd'")
    ended = command(tmp_path, "doctor", "--format", "json")
    assert (ended.code, found_by(ended)["spent"][0]) == (0, "warning")
    change(tmp_path, "UPDATE accounts SET reserved = 3 WHERE unit = 'concurrent'")
    fixed = command(tmp_path, "doctor", "--fix", "--format", "json")
    assert fixed.code == 0 and "4 accounts keep what is spent above" in fixed.err
    with closing(apsw.Connection(str(tmp_path / "budgets.db"))) as db:
        assert list(db.execute("SELECT spent FROM accounts WHERE budget = 'search-team' AND unit = 'usd'")) == [
            (spent,)
        ]
        assert list(db.execute("SELECT reserved FROM accounts WHERE unit = 'concurrent'")) == [(1,)]


def test_what_waits_in_the_spool_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spool = open_spool(f"sqlite:///{tmp_path}/budgets.db", "default", None)
    spool.put([release("a"), release("b")])
    spool.close()
    ended = command(tmp_path, "doctor", "--format", "json")
    assert (ended.code, found_by(ended)["spool"]) == (
        0,
        ("warning", "2 settled or released calls wait on this machine"),
    )


def test_a_reservation_that_nobody_sweeps_is_a_warning(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "UPDATE reservations SET lease_end_ms = 1 WHERE state = 'held'")
    ended = command(tmp_path, "doctor", "--format", "json")
    assert (ended.code, found_by(ended)["held"]) == (0, ("warning", "1 open reservation, 1 of them overdue"))


def test_a_store_of_another_schema_and_a_clock_that_stands_behind_are_told(tmp_path: Path) -> None:
    fill(tmp_path)
    change(tmp_path, "UPDATE clocks SET last_ms = last_ms + 600000")
    ended = command(tmp_path, "doctor", "--format", "json")
    assert ended.code == 1 and found_by(ended)["clock"][0] == "failed"
    change(tmp_path, "PRAGMA user_version = 99")
    ended = command(tmp_path, "doctor", "--format", "json")
    assert ended.code == 1 and "has schema 99" in found_by(ended)["store"][1]
