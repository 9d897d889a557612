"""The built wheel, installed in a clean environment away from the checkout, is whole and works."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from budgetguard.errors import StoreUnusable
from budgetguard.stores import scripts

RESERVE = """
import asyncio
import budgetguard as bg

async def main():
    guard = bg.Guard("$5/day", store="sqlite:///:memory:")
    async with guard.reserve(team="t", estimate=bg.Usage(10, 5, cost_usd="0.01")) as hold:
        hold.record(bg.Usage(8, 4, cost_usd="0.008"))
    print(await guard.available())
    await guard.aclose()

asyncio.run(main())
print(bg.__file__)
"""
LUA_DIR = "from budgetguard.stores.scripts import lua_dir; print(lua_dir())"


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed, run in `cwd` with an environment of its own."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def needed(asking: Distribution, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """What a distribution declares to need, and what that needs in turn, as installed where the tests run."""
    found: dict[str, Distribution] = {}
    for requirement in map(Requirement, asking.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            known = distribution(requirement.name)
            assert known.version in requirement.specifier, f"{asking.name} needs {requirement}, not {known.version}"
            found |= {requirement.name: known, **needed(known, frozenset(requirement.extras))}
    return found


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment that has the wheel and its dependencies, and nothing of the checkout.

    The dependencies are links to those that the tests run with: pip has found these for the same declarations.
    """
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", checkout, cwd=folder)
    (wheel,) = (folder / "dist").glob("llm_budgetguard-*-py3-none-any.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input", "--no-deps"]
    run(*pip, "--disable-pip-version-check", wheel, cwd=folder)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (guard,) = distributions(name="llm-budgetguard", path=[str(site)])
    for found in needed(guard).values():
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(found.locate_file(name))))
    return python


def test_the_wheel_reserves_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    available, where = run(installed, "-I", "-c", RESERVE, cwd=tmp_path).splitlines()
    assert available == "{'usd': Decimal('4.992')}"
    assert Path(where).is_relative_to(installed.parent.parent)


def test_the_wheel_carries_the_lua_folder_the_typing_mark_and_what_is_for_monitoring(
    installed: Path, tmp_path: Path
) -> None:
    lua = Path(run(installed, "-I", "-c", LUA_DIR, cwd=tmp_path).strip())
    assert lua.is_relative_to(installed.parent.parent)
    assert (lua.parent.name, lua.name) == ("budgetguard", "lua")
    assert (lua / "README.md").is_file()
    assert (lua.parent / "py.typed").is_file()
    assert {path.name for path in (lua.parent / "monitoring").iterdir()} == {"rules.yml", "dashboard.json"}


def test_the_wheel_has_the_command(installed: Path, tmp_path: Path) -> None:
    assert "simulate" in run(installed.with_name("budgetguard"), "--help", cwd=tmp_path)


def test_a_checkout_finds_its_own_lua_folder(checkout: Path) -> None:
    assert scripts.lua_dir() == checkout / "lua"


def test_a_package_without_its_lua_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "__file__", str(tmp_path / "budgetguard" / "stores" / "scripts.py"))
    with pytest.raises(StoreUnusable, match="install llm-budgetguard again"):
        scripts.lua_dir()
