"""The policy file: what it says, where its texts come from, and that it is read again when it changes."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from budgetguard.core.grammar import format_limit
from budgetguard.core.periods import window_at
from budgetguard.errors import ConfigError
from budgetguard.policy import Budget, GuardSettings, LabelRules, Policy, StoreSettings
from budgetguard.policy_file import PolicyFile, load_policy, parse_policy
from budgetguard.pricing import cost_of
from budgetguard.usage import Usage

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

# DESIGN 3, letter for letter.
EXAMPLE = """
mode = "enforce"                        # enforce | shadow | off, for the whole fleet
timezone = "Europe/Berlin"              # of calendar periods; default UTC; a budget may have its own

[store]
url = "${BUDGETGUARD_STORE}"            # default: SQLite in the user's state directory
namespace = "prod"
timeout = "2s"
on_store_away = "refuse"                # or "allow" (recorded, loud)
spool = "..."                           # default: in the user's state directory

[guard]
lease = "60s"
max_hold = "24h"
replay_keep = "15m"
on_expiry = "charge"                    # or "release"
on_unmatched = "allow"                  # a call that no budget covers

[labels]
required = ["team"]                     # a call without it is refused
known = ["team", "agent", "session", "task", "user", "tenant"]
default = { env = "prod" }

[[budget]]
name = "search-team"
where = { team = "search" }             # which calls: every key must match
limits = ["5M tokens/hour", "$50/day", "$900/month", "600 requests/minute", "20 concurrent"]
on_exceed = "refuse"                    # refuse (raises BudgetExceeded) | delay | shadow
max_delay = "30s"
alert_at = [0.5, 0.8, 1.0]

[[budget]]
name = "each-agent"
per = ["agent"]                         # one account for every agent, whatever its team
limits = ["500k tokens/hour", "$5/day", "200k tokens/rolling 10 minutes"]

[[budget]]
name = "runaway-session"
per = ["session"]
limits = ["$2/total"]                   # a session's lifetime

[[price]]                               # wins over the built-in price data
model = "acme-*"
usd_per_mtok = { input = "0.15", output = "0.60", cache_read = "0.075" }
valid_from = 2026-01-01
"""


def parse(text: str, base_dir: Path = Path(), **env: str) -> Policy:
    return parse_policy(text, "budgetguard.toml", env, base_dir)


def faults_of(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, **env)
    assert caught.value.source == "budgetguard.toml"
    return list(caught.value.faults)


def test_the_example_of_the_design_means_what_it_says(tmp_path: Path) -> None:
    policy = parse(EXAMPLE, tmp_path)
    assert (policy.mode, policy.timezone) == ("enforce", "Europe/Berlin")
    assert policy.store == StoreSettings(None, "prod", 2_000, "refuse", str(tmp_path / "..."))
    assert policy.guard == GuardSettings(60_000, 86_400_000, 900_000, "charge", "allow")
    known = ["team", "agent", "session", "task", "user", "tenant"]
    assert policy.labels == LabelRules(required=["team"], known=known, default={"env": "prod"})
    assert policy.budgets == (
        Budget(
            "search-team",
            ["5M tokens/hour", "$50/day", "$900/month", "600 requests/minute", "20 concurrent"],
            where={"team": "search"},
        ),
        Budget("each-agent", ["500k tokens/hour", "$5/day", "200k tokens/rolling 10 minutes"], per=["agent"]),
        Budget("runaway-session", ["$2/total"], per=["session"]),
    )
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert cost_of(policy.prices, "acme-large", usage, NEW_YEAR_MS) == (750_000_000, "price:acme-*")
    assert cost_of(policy.prices, "acme-large", usage, NEW_YEAR_MS - 1)[0] is None


def test_the_example_matches_calls_as_it_says() -> None:
    policy = parse(EXAMPLE)
    subject = tuple(sorted({"team": "search", "agent": "a", "env": "prod", "model": "acme-1"}.items()))
    plan = policy.match(subject, NEW_YEAR_MS).plan
    assert [(claim.account.budget, claim.account.subject) for claim in plan.claims] == [
        *[("search-team", {})] * 5,
        *[("each-agent", {"agent": "a"})] * 3,
        ("runaway-session", {"session": "(none)"}),
    ]
    day = plan.claims[1].account
    assert (day.window, day.window_start_ms, day.window_end_ms) == window_at(day.period, NEW_YEAR_MS)
    assert str(day.period) == "day@Europe/Berlin"
    limits = [format_limit(limit) for limit in policy.budgets[1].parsed_limits(policy.timezone)]
    assert limits == ["500k tokens/hour", "$5/day", "200k tokens/rolling 10 minutes"]


def test_an_empty_file_is_a_policy_of_defaults() -> None:
    policy = parse("")
    assert (policy.mode, policy.timezone, policy.budgets) == ("enforce", "UTC", ())
    assert (policy.guard, policy.store) == (GuardSettings(), StoreSettings())


def test_every_key_that_the_example_leaves_out_is_read() -> None:
    policy = parse(
        """
        mode = "shadow"
        [store]
        on_store_away = "allow"
        timeout = 0.5
        outbox_max = 1
        ledger = "none"
        allow_eviction = true
        [guard]
        on_expiry = "release"
        on_unmatched = "refuse"
        [[budget]]
        name = "b"
        limits = ["0 requests/day"]
        block = true
        timezone = "Asia/Tokyo"
        on_exceed = "delay"
        max_delay = 5
        alert_at = [1, 0.25]
        [[price]]
        model = "m"
        usd_per_request = "0.01"
        usd_per_mtok = { input = "1", output = "2", cache_read = "3", cache_write = "4", cache_write_1h = "5" }
        """
    )
    assert policy.mode == "shadow"
    assert policy.store == StoreSettings(
        timeout_ms=500, on_store_away="allow", outbox_max=1, ledger="none", allow_eviction=True
    )
    assert policy.guard == GuardSettings(on_expiry="release", on_unmatched="refuse")
    (budget,) = policy.budgets
    assert (budget.timezone, budget.max_delay_ms, budget.alert_levels(100)) == ("Asia/Tokyo", 5_000, (25, 100))
    assert not policy.match((), 0).plan.claims[0].enforced
    price = policy.prices.find("m", 0)
    assert price is not None
    assert price.usd_per_request == Decimal("0.01")
    assert price.valid_from is None


def test_the_date_of_a_price_is_one_of_toml() -> None:
    text = '[[price]]\nmodel = "m"\nusd_per_request = "1"\nvalid_from = 2026-01-01'
    price = parse(text).prices.find("m", NEW_YEAR_MS)
    assert price is not None
    assert price.valid_from == date(2026, 1, 1)


def test_variables_are_expanded_in_every_text_and_in_what_they_hold_no_further() -> None:
    policy = parse(
        """
        timezone = "${AREA}/${CITY}"
        [labels]
        default = { env = "${ENV}", odd = "${ODD}", none = "$ENV {ENV} $$ $5", empty = "x${EMPTY}" }
        [[budget]]
        name = "team ${ENV}"
        limits = ["${AMOUNT} tokens/hour", "$5/day"]
        """,
        AREA="Europe", CITY="Berlin", ENV="prod", ODD="${ENV}", AMOUNT="5M", EMPTY="",
    )  # fmt: skip
    assert policy.timezone == "Europe/Berlin"
    assert policy.labels.default == {"env": "prod", "odd": "${ENV}", "none": "$ENV {ENV} $$ $5", "empty": "x"}
    assert policy.budgets[0] == Budget("team prod", ["5M tokens/hour", "$5/day"])


def test_a_variable_that_is_not_set_is_a_fault_of_its_key_and_nothing_else_is_said_of_it() -> None:
    text = 'timezone = "${ZONE}"\n[[budget]]\nname = "b"\nlimits = ["$1/day", "${SIZE} tokens/day", "${", "${A-B}"]'
    zone, size, unclosed, odd = faults_of(text)
    assert zone.startswith("timezone: the environment variable ZONE is not set")
    assert size.startswith("budget[0].limits[1]: the environment variable SIZE is not set")
    for number, fault in [(2, unclosed), (3, odd)]:
        assert fault.startswith(f"budget[0].limits[{number}]: after ${{ must come the name of an environment variable")


def test_the_stores_own_variable_is_the_default_store_where_it_is_not_set() -> None:
    text = '[store]\nurl = "${BUDGETGUARD_STORE}"'
    assert parse(text).store.url is None
    assert parse(text, BUDGETGUARD_STORE="").store.url is None
    assert parse(text, BUDGETGUARD_STORE="redis://h").store.url == "redis://h"
    assert faults_of('[store]\nurl = "${OTHER}"')[0].startswith("store.url: the environment variable OTHER")


def test_the_environment_overrides_store_and_mode() -> None:
    text = 'mode = "enforce"\n[store]\nurl = "sqlite:///a.db"\nnamespace = "n"'
    policy = parse(text, BUDGETGUARD_STORE="redis://h", BUDGETGUARD_MODE="shadow")
    assert (policy.mode, policy.store) == ("shadow", StoreSettings("redis://h", "n"))
    assert parse("", BUDGETGUARD_STORE="redis://h").store == StoreSettings("redis://h")
    assert parse('[store]\nurl = "${NONE}"', BUDGETGUARD_STORE="redis://h").store.url == "redis://h"
    mode, store = sorted(faults_of(text, BUDGETGUARD_STORE="x:y", BUDGETGUARD_MODE="on"))
    assert mode.startswith('BUDGETGUARD_MODE must be one of "enforce"')
    assert store.startswith("BUDGETGUARD_STORE must be a URL such as sqlite:///budgets.db")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///file.db", "{}/file.db"),
        ("sqlite:///../x/file.db", "{}/x/file.db"),
        ("sqlite:////abs/f.db", "/abs/f.db"),
    ],
)
def test_a_store_in_a_file_is_relative_to_the_policy_file_and_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, file: str
) -> None:
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "b.toml"
    path.write_text(f'[store]\nurl = "{url}"\nspool = "s.db"')
    base = tmp_path if ".." in url else tmp_path / "config"
    monkeypatch.chdir(tmp_path)
    for spelled in (path, Path("config/b.toml")):
        store = load_policy(spelled, {}).store
        assert store.url == "sqlite:///" + file.format(base)
        assert store.spool == str(tmp_path / "config" / "s.db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///:memory:", "redis://h:6379/0", "rediss://u:p@h", "unix:///run/redis.sock",
        "redis+sentinel://a:1,b:2/m/0", "rediss+sentinel://a/m", "redis+cluster://a:1", "rediss+cluster://a:1",
    ],
)  # fmt: skip
def test_other_urls_are_kept_as_they_are(url: str) -> None:
    assert parse(f'[store]\nurl = "{url}"').store.url == url


def test_a_file_is_read_again_when_it_has_changed_and_a_wrong_version_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text('mode = "enforce"')
    file = PolicyFile(path, {})
    assert file.load().mode == "enforce"
    assert not file.changed()
    assert file.reload() is None
    path.write_text('mode = "shadow"')
    assert file.changed()
    changed = file.reload()
    assert changed is not None
    assert changed.mode == "shadow"
    path.write_text("mode = 5")
    with pytest.raises(ConfigError):
        file.reload()
    assert file.reload() is None
    path.unlink()
    assert file.changed()
    with pytest.raises(ConfigError, match="there is no such file"):
        file.reload()
    assert file.reload() is None
    path.write_text('mode = "off"')
    assert file.reload() is not None


def test_a_file_of_the_same_size_and_mtime_that_was_put_in_its_place_has_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "b.toml", tmp_path / "new.toml"
    path.write_text("timezone = 'UTC'")
    file = PolicyFile(path, {})
    file.load()
    other.write_text("timezone = 'GMT'")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    changed = file.reload()
    assert changed is not None
    assert changed.timezone == "GMT"


def test_a_watched_file_is_the_same_one_after_the_working_directory_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.toml").write_text('[store]\nurl = "sqlite:///f.db"')
    monkeypatch.chdir(tmp_path)
    file = PolicyFile(Path("b.toml"), {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert file.load().store.url == f"sqlite:///{tmp_path}/f.db"
