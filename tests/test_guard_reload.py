"""The policy's file is read again when it changes; a bad new version is told, and the old one stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from guard_kit import USAGE, World, until

import budgetguard as bg
from budgetguard.events import PolicyRejected, PolicyReloaded

CALL = bg.Usage(600, 0)


def write(path: Path, limit: str, more: str = "") -> None:
    """A new version, which no clock however coarse takes for the old one."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(f'{more}\n[[budget]]\nname = "all"\nlimits = ["{limit}"]\n')
    os.utime(path, ns=(before + 1_000_000_000,) * 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "budgetguard.toml"
    write(path, "1k tokens/day")
    return path


def guard_of(world: World, file: Path) -> bg.Guard:
    return bg.Guard.from_toml(file, store=world.store(), observers=[world.heard])


async def used(guard: bg.Guard) -> None:
    async with guard.reserve(estimate=CALL) as hold:
        hold.record(CALL)


def test_reload_puts_the_new_version_in_force_and_what_was_spent_stays(world: World, file: Path) -> None:
    async def main() -> None:
        guard = guard_of(world, file)
        async with guard:
            await used(guard)
            with pytest.raises(bg.BudgetExceeded):
                await used(guard)
            write(file, "1200 tokens/day")
            guard.reload()
            await used(guard)
            with pytest.raises(bg.BudgetExceeded, match="spent 1,200 tokens"):
                await used(guard)
        (told,) = world.heard.of(PolicyReloaded)
        assert (told.source, told.resets) == (str(file), ())

    asyncio.run(main())


def test_a_changed_file_is_noticed_without_a_word(world: World, file: Path) -> None:
    async def main() -> None:
        guard = guard_of(world, file)
        async with guard:
            write(file, "5k tokens/hour", 'mode = "shadow"')
            await until(lambda: guard.policy.mode == "shadow", "the file is watched")
        (told,) = world.heard.of(PolicyReloaded)
        assert told.resets == ("budget all: tokens/hour in UTC starts at zero (is new)",
                               "budget all: tokens/day in UTC is gone; what it has spent counts no more")  # fmt: skip

    asyncio.run(main())


def test_a_bad_new_version_is_told_once_and_the_old_one_stays(world: World, file: Path) -> None:
    async def main() -> None:
        guard = guard_of(world, file)
        async with guard:
            write(file, "1k tokns/day")
            await until(lambda: world.heard.of(PolicyRejected), "the bad version is told")
            guard.reload_if_changed()
            with pytest.raises(bg.ConfigError, match="did you mean tokens"):
                guard.reload()
            file.unlink()
            await until(lambda: len(world.heard.of(PolicyRejected)) == 2, "the missing file is told")
            await used(guard)
            with pytest.raises(bg.BudgetExceeded):
                await used(guard)
            write(file, "5k tokens/day")
            await until(lambda: world.heard.of(PolicyReloaded), "the good version is taken")
            await used(guard)
        (bad, gone) = world.heard.of(PolicyRejected)
        assert bad.source == str(file)
        assert "did you mean tokens" in bad.error
        assert "there is no such file" in gone.error

    asyncio.run(main())


def test_new_label_rules_are_in_force_at_once(world: World, file: Path) -> None:
    async def main() -> None:
        guard = guard_of(world, file)
        async with guard:
            await used(guard)
            write(file, "9k tokens/day", '[labels]\nrequired = ["team"]')
            guard.reload()
            with pytest.raises(bg.LabelRequired):
                await used(guard)
            write(file, "9k tokens/day", 'mode = "off"')
            guard.reload()
            await used(guard)
        assert world.spent() == 600

    asyncio.run(main())


def test_reload_between_two_runs_of_asyncio_and_in_a_guard_made_in_python(world: World, file: Path) -> None:
    guard = guard_of(world, file)
    asyncio.run(used(guard))
    write(file, "9k tokens/day")
    guard.reload()
    asyncio.run(used(guard))
    asyncio.run(guard.aclose())
    assert world.spent() == 1_200
    in_python = world.guard("1k tokens/day")
    in_python.reload()
    assert [budget.limits for budget in in_python.policy.budgets] == [("1k tokens/day",)]


def test_a_hold_keeps_its_accounts_whatever_the_policy_becomes(world: World, file: Path) -> None:
    async def main() -> None:
        guard = guard_of(world, file)
        async with guard, guard.reserve(estimate=CALL) as hold:
            write(file, "9k tokens/hour")
            guard.reload()
            hold.record(USAGE)
        assert (world.row(hold.id)["accounts"], world.spent()) == ('[["all",[],"tokens","day@UTC","2026-11-22"]]', 600)

    asyncio.run(main())
