"""One examination: everything that can be looked at of one store, its policy and its ledger."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from budgetguard.core.balances import spent_and_reserved
from budgetguard.doctor import configured, installed, served, stored
from budgetguard.doctor.asked import Patient, ledger_of, since_ms
from budgetguard.doctor.findings import Check, Facts, failed, well
from budgetguard.doctor.proof import Proof, checks, proven
from budgetguard.errors import BudgetGuardError
from budgetguard.ledger.tally import Look
from budgetguard.stores.redis.books import RedisBooks
from budgetguard.stores.sqlite.mending import SQLiteBooks, versions

FORMAT = 1
"""Of the evidence."""


@dataclass
class Report:
    """What was found: `facts` are settings, versions and figures; `accounts` what stands beside what is told."""

    began: str
    facts: Facts
    checks: list[Check] = field(default_factory=list)
    accounts: list[Facts] = field(default_factory=list)
    ended: str = ""

    @property
    def failed(self) -> bool:
        return failed(self.checks)

    def evidence(self) -> Facts:
        """All of it as JSON has it: what a run can be repeated from, and compared with."""
        return {
            "budgetguard_doctor": FORMAT, "began": self.began, "ended": self.ended, "ok": not self.failed,
            **self.facts, "checks": [check._asdict() for check in self.checks], "accounts": self.accounts,
        }  # fmt: skip


async def examine(patient: Patient, command: Sequence[str]) -> Report:
    """Look at all of it. A part that cannot be looked at is a check that failed, and no error."""
    report = Report(_now(), {
        "program": installed.program(command),
        "versions": installed.versions() | versions(),
        "config": {
            "file": str(patient.path.absolute()),
            "policy": None if patient.policy is None else configured.policy_facts(patient.policy),
        },
        "prices": installed.prices(patient.policy),
    })  # fmt: skip
    report.checks = [
        installed.check_versions(report.facts["versions"]),
        configured.check_policy(patient.path, patient.policy, patient.faults),
        installed.check_prices(report.facts["prices"]),
    ]
    if not patient.faults:
        report.facts["store"] = configured.store_facts(patient.settings, patient.ledger)
        try:
            async for check in _of_sqlite(patient, report) if patient.sqlite_path else _of_redis(patient, report):
                report.checks.append(check)
        except BudgetGuardError as error:
            report.checks.append(Check("store", "failed", str(error), "nothing more can be looked at until it answers"))
        report.checks.append(stored.check_spool(patient))
    report.ended = _now()
    return report


async def _of_sqlite(patient: Patient, report: Report) -> AsyncIterator[Check]:
    path = patient.sqlite_path or ""
    if path == ":memory:" or not await asyncio.to_thread(os.path.exists, path):
        yield Check("store", "warning", f"there is no {path} yet", "nothing: the first call makes it")
        return
    books = SQLiteBooks(
        path, patient.settings.namespace, patient.settings.timeout_ms, on_expiry=patient.guard.on_expiry
    )
    facts = report.facts["server"] = stored.file_facts(path) | await asyncio.to_thread(books.facts)
    yield _sound(path, facts)
    report.facts["clock"] = {"behind_ms": facts.pop("behind_ms"), "differs_ms": 0, "within_ms": 0}
    yield served.check_clock(report.facts["clock"])
    ledger = ledger_of(patient)
    if ledger is not None:
        extent, check = await stored.extent_of(ledger)
        report.facts["ledger"] = None if extent is None else extent._asdict()
        yield check

    async def look() -> Look:
        return await asyncio.to_thread(books.look)

    proof = await proven(look)
    for check in _proven(proof, report):
        yield check
    if ledger is not None:
        yield await asyncio.to_thread(stored.check_unpriced, ledger, proof.look.tally.now_ms)
    yield await asyncio.to_thread(stored.check_outlived, books)


def _sound(path: str, facts: Facts) -> Check:
    if facts["damage"]:
        return Check(
            "store", "failed", f"{path}: {facts['damage']}", "restore it from a backup: SQLite finds it broken"
        )
    text = f"{path}: schema {facts['schema']}, journal {facts['journal_mode']}, {facts['bytes']:,} bytes"
    return well("store", text)


async def _of_redis(patient: Patient, report: Report) -> AsyncIterator[Check]:
    settings = patient.settings
    async with aclosing(
        RedisBooks(patient.url, settings.namespace, settings.timeout_ms, on_expiry=patient.guard.on_expiry)
    ) as books:
        report.facts["server"] = await served.server_facts(books)
        for check in served.check_server(report.facts["server"], settings.allow_eviction):
            yield check
        report.facts["clock"] = await served.clock_facts(books)
        yield served.check_clock(report.facts["clock"])
        async for check in _of_namespace(patient, report, books):
            yield check
        yield await stored.check_lasting(books)


async def _of_namespace(patient: Patient, report: Report, books: RedisBooks) -> AsyncIterator[Check]:
    settings, ledger, extent = patient.settings, ledger_of(patient), None
    if ledger is None:
        do = "set ledger.url, or name it with --ledger: what is spent can be proven only beside its rows"
        why = 'ledger = "none": rows are not kept' if settings.ledger == "none" else "nobody says which SQL ledger"
        yield Check("ledger", "warning", why, do)
    else:
        extent, check = await stored.extent_of(ledger)
        report.facts["ledger"] = None if extent is None else extent._asdict()
        yield check
    meta = await books.meta()
    report.facts["namespace"] = {"schema": meta.schema, "clock": meta.clock}
    yield served.check_state(meta, settings.namespace, 0 if extent is None else extent.rows)

    async def look() -> Look:
        pruned_ms = None if extent is None else extent.forgotten_ms
        return await books.look(ledger.told if ledger is not None else lambda since: (), since_ms, pruned_ms)

    if ledger is not None and extent is None:
        return
    proof = await proven(look)
    for check in _proven(proof, report):
        if ledger is not None or check.name != "spent":
            yield check
    for check in stored.check_outbox(proof.look, settings.outbox_max):
        yield check
    if ledger is not None:
        yield await asyncio.to_thread(stored.check_unpriced, ledger, proof.look.tally.now_ms)


def _proven(proof: Proof, report: Report) -> list[Check]:
    """The proof's checks; its figures go into the report."""
    report.facts["figures"] = {
        "looks": proof.looks, "store_ms": proof.look.tally.now_ms, "rows": proof.look.tally.calls,
        "held": proof.look.held, "outbox": proof.look.waiting,
    }  # fmt: skip
    report.accounts = _accounts(proof.look)
    return [*checks(proof), stored.check_held(proof.look)]


def _accounts(look: Look) -> list[dict[str, Any]]:
    told, now_ms = look.tally.accounts(), look.tally.now_ms
    found = []
    for key in sorted({*look.after, *told}):
        account = (look.after.get(key) or told[key])[0]
        if not look.tally.counts(account):
            continue
        (spent, reserved), (told_spent, told_reserved) = (
            spent_and_reserved(account, where[key][1], now_ms) if key in where else (0, 0)
            for where in (look.after, told)
        )
        found.append({
            "key": key, "budget": account.budget, "subject": account.subject, "unit": account.unit,
            "period": str(account.period), "window": account.window, "spent": spent, "told_spent": told_spent,
            "reserved": reserved, "told_reserved": told_reserved,
        })  # fmt: skip
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
