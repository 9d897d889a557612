"""The policy file: TOML in, a `Policy` or one error with every fault out."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from budgetguard.alerts.settings import ALERT_CHECKS, AlertRoute, AlertSettings, route_faults, routes_faults
from budgetguard.budget import Budget, budget_faults
from budgetguard.errors import ConfigError
from budgetguard.estimates.settings import ESTIMATE_CHECKS, LEAST_HALF_LIFE_MS, EstimateSettings
from budgetguard.owners import Owner, owner_faults, owners_faults
from budgetguard.policy import MODES, Policy, budgets_faults, hosts_faults, known_labels
from budgetguard.policy_checks import (
    Check,
    a_span,
    a_store_url,
    a_table,
    a_zone,
    in_table,
    key_path,
    span_ms,
    table_faults,
    tables,
)
from budgetguard.policy_settings import (
    GUARD_CHECKS,
    LEDGER_CHECKS,
    STORE_CHECKS,
    GuardSettings,
    LabelRules,
    LedgerSettings,
    StoreSettings,
    label_faults,
)
from budgetguard.price import Price, price_faults
from budgetguard.pricing import PriceTable
from budgetguard.wire.hosts import Host, host_faults

STORE_VARIABLE = "BUDGETGUARD_STORE"
MODE_VARIABLE = "BUDGETGUARD_MODE"
_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SQLITE = "sqlite:///"

GUARD_SPANS = {"lease": a_span(100), "max_hold": a_span(100), "replay_keep": a_span(1_000)}
STORE_SPANS = {"timeout": a_span(1)}
ESTIMATE_SPANS = {"half_life": a_span(LEAST_HALF_LIFE_MS)}


def _file_keys(spans: Mapping[str, Check], checks: Mapping[str, Check]) -> Mapping[str, Check]:
    """The keys of a table of the file: times are texts there, and have no `_ms` in their names."""
    return {**spans, **{key: check for key, check in checks.items() if not key.endswith("_ms")}}


_GUARD_KEYS = _file_keys(GUARD_SPANS, GUARD_CHECKS)
_STORE_KEYS = _file_keys(STORE_SPANS, STORE_CHECKS)
_ESTIMATE_KEYS = _file_keys(ESTIMATE_SPANS, ESTIMATE_CHECKS)
FILE_CHECKS: Mapping[str, Check] = {
    "mode": MODES,
    "timezone": a_zone,
    "store": a_table(lambda table: table_faults(table, _STORE_KEYS)),
    "guard": a_table(lambda table: table_faults(table, _GUARD_KEYS)),
    "ledger": a_table(lambda table: table_faults(table, LEDGER_CHECKS)),
    "labels": a_table(label_faults),
    "budget": tables(budget_faults),
    "price": tables(price_faults),
    "estimate": a_table(lambda table: table_faults(table, _ESTIMATE_KEYS)),
    "host": tables(host_faults),
    "owner": tables(owner_faults),
    "alerts": a_table(lambda table: table_faults(table, ALERT_CHECKS)),
    "alert": tables(route_faults),
}
"""Everything that the file may say at its top, and what each must be."""


def load_policy(path: Path, env: Mapping[str, str]) -> Policy:
    """The policy that the file at `path` states.

    Raises:
        ConfigError: lists every fault of the file by key path; also a file that is missing or cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(str(path), ["there is no such file; `budgetguard init` writes one to begin with"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"the file cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [f"the file is not UTF-8 (line {line}): save it as UTF-8"]) from None
    return parse_policy(text, str(path), env, path.parent)


def parse_policy(text: str, source: str, env: Mapping[str, str], base_dir: Path) -> Policy:
    """The policy that a TOML text states.

    Args:
        source: what errors call the text.
        env: for `${NAME}`; BUDGETGUARD_STORE and BUDGETGUARD_MODE override the text.
        base_dir: the folder to which files named in the text are relative.

    Raises:
        ConfigError: lists every fault by key path, with what was expected.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(source, ["TOML: it is nested too deeply"]) from None
    except tomllib.TOMLDecodeError as error:  # says line and column
        raise ConfigError(source, [f"TOML: {error}"]) from None
    except ValueError:  # Python's bound on digits
        raise ConfigError(source, ["TOML: it has a number with more digits than can be read"]) from None
    unset: dict[str, str] = {}
    store, mode = env.get(STORE_VARIABLE), env.get(MODE_VARIABLE)
    _leave_default_store(document, overridden=bool(store))
    document = cast(dict[str, Any], _expanded(document, "", env, unset))
    # What could not be expanded has been told, and is not judged as it stands.
    told = tuple(f"{path}{end}" for path in unset for end in " :")
    found = (*table_faults(document, FILE_CHECKS), *_faults_between(document))
    faults = [*unset.values(), *(fault for fault in found if not fault.startswith(told))]
    faults += a_store_url(STORE_VARIABLE, store) if store else ()
    faults += MODES(MODE_VARIABLE, mode) if mode else ()
    if faults:
        raise ConfigError(source, faults)
    if store:
        document.setdefault("store", {})["url"] = store
    if mode:
        document["mode"] = mode
    return _policy(document, base_dir)


class PolicyFile:
    """A policy file that is read again when it changes."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        """Watch `path`; nothing is read yet."""
        self.path = path.absolute()
        self._env = env
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> Policy:
        """The policy as the file states it now.

        Raises:
            ConfigError: as `load_policy`.
        """
        self._seen = self._stamp()
        return load_policy(self.path, self._env)

    def changed(self) -> bool:
        """Whether the file is another than at the last `load`, judged by its mtime, size and inode."""
        return self._stamp() != self._seen

    def reload(self) -> Policy | None:
        """The new policy if the file has changed, else None. Each version is read once, also one that is wrong.

        Raises:
            ConfigError: the new version is wrong, or gone; keep the old policy.
        """
        return self.load() if self.changed() else None

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _leave_default_store(document: dict[str, Any], *, overridden: bool) -> None:
    """Take out a store's URL that the environment overrides, or leaves to the default by not having it."""
    store = document.get("store")
    url = store.get("url") if isinstance(store, dict) else None
    if isinstance(url, str) and (overridden or url == f"${{{STORE_VARIABLE}}}"):
        del document["store"]["url"]


def _expanded(value: Any, path: str, env: Mapping[str, str], faults: dict[str, str]) -> Any:
    """The value with every `${NAME}` in its texts replaced; what cannot be stays as it is, a fault of its path."""
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return {key: _expanded(item, prefix + key_path(key), env, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, f"{path}[{number}]", env, faults) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        name, closed = found.groups()
        if not closed or not _VARIABLE.fullmatch(name):
            faults[path] = f"{path}: after ${{ must come the name of an environment variable and }}, as in ${{HOME}}"
        elif name not in env:
            faults[path] = f"{path}: the environment variable {name} is not set: set it, or write the value itself"
        else:
            return env[name]
        return found[0]

    return _REFERENCE.sub(replacement, value)


def _faults_between(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between the tables, as far as each is well-formed."""
    labels, budgets, prices = document.get("labels", {}), document.get("budget"), document.get("price")
    hosts, owners, routes = document.get("host"), document.get("owner"), document.get("alert")
    names = None
    if isinstance(labels, Mapping) and "known" in labels:
        stated = {key: labels[key] for key in ("known", "default") if key in labels}
        names = None if list(label_faults(stated)) else LabelRules(**stated).names
    if isinstance(hosts, list):
        for place, fault in hosts_faults(hosts):
            yield in_table("host", place, hosts[place], fault)
    if isinstance(owners, list):
        for place, fault in owners_faults(owners):
            yield in_table("owner", place, owners[place], fault)
    entries = [entry if isinstance(entry, Mapping) else {} for entry in budgets] if isinstance(budgets, list) else []
    for place, fault in budgets_faults(entries, names):
        yield in_table("budget", place, entries[place], fault)
    if isinstance(routes, list) and isinstance(labels, Mapping) and not list(label_faults(labels)):
        for place, fault in routes_faults(routes, known_labels(LabelRules(**labels), entries)):
            yield in_table("alert", place, routes[place], fault)
    if isinstance(prices, list) and not list(FILE_CHECKS["price"]("price", prices)):
        try:
            PriceTable([Price(**entry) for entry in prices])
        except ConfigError as error:
            yield from (f"price: {fault}" for fault in error.faults)


def _policy(document: Mapping[str, Any], base_dir: Path) -> Policy:
    """The policy of a document without faults."""
    store = _in_ms(document.get("store", {}), STORE_SPANS)
    if store.get("url") is not None:
        store["url"] = resolved_url(store["url"], base_dir)
    if "spool" in store:
        store["spool"] = os.path.abspath(base_dir / store["spool"])
    ledger = dict(document.get("ledger", {}))
    if "url" in ledger:
        ledger["url"] = resolved_url(ledger["url"], base_dir)
    return Policy(
        [Budget(**entry) for entry in document.get("budget", ())],
        mode=document.get("mode", "enforce"),
        timezone=document.get("timezone", "UTC"),
        labels=LabelRules(**document.get("labels", {})),
        guard=GuardSettings(**_in_ms(document.get("guard", {}), GUARD_SPANS)),
        store=StoreSettings(**store),
        prices=PriceTable([Price(**entry) for entry in document.get("price", ())]),
        estimate=EstimateSettings(**_in_ms(document.get("estimate", {}), ESTIMATE_SPANS)),
        hosts=[Host(**entry) for entry in document.get("host", ())],
        ledger=LedgerSettings(**ledger),
        owners=[Owner(**entry) for entry in document.get("owner", ())],
        alerts=AlertSettings(
            **document.get("alerts", {}), routes=[AlertRoute(**entry) for entry in document.get("alert", ())]
        ),
    )


def _in_ms(table: Mapping[str, Any], spans: Mapping[str, Check]) -> dict[str, Any]:
    return {
        f"{key}_ms" if key in spans else key: span_ms(value, key) if key in spans else value
        for key, value in table.items()
    }


def resolved_url(url: str, base_dir: Path) -> str:
    """The URL of a store, its file (if it has one) absolute: relative ones are in `base_dir`."""
    file = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or file == ":memory:":
        return url
    return _SQLITE + os.path.abspath(base_dir / file)
