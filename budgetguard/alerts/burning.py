"""Burn rate: which account will be exhausted before its window ends, if it goes on as it does.

Of a limit per hour, day, week or month, of which a share is spent (`burn_rate`, a fifth) and not all, in a window that
began five minutes ago or earlier, either of two speeds raises it:

- the window's own, spent over the time since it began, once a tenth of the window is over;
- the recent one, of the last ten to twenty minutes, if it exhausts the limit within three hours: a busy quarter of an
  hour says nothing of the end of the month.

It must come before the last twentieth of the window, and is told once for each window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.texts import account_text, amount_text, clock_text, labels_of, limit_text
from budgetguard.alerts.watching import HOUR_MS, Found, found
from budgetguard.core.model import Account
from budgetguard.event_fields import unit_suffix
from budgetguard.store import AccountRow

if TYPE_CHECKING:
    from budgetguard.policy import Policy

MINUTE_MS = 60_000
YOUNG_MS = 5 * MINUTE_MS
RECENT_MS = 10 * MINUTE_MS
AHEAD_MS = 3 * HOUR_MS
WINDOW_PART, LAST_PART = 10, 20
_NAMES = ("hour", "day", "week", "month")


class Level(NamedTuple):
    """What was spent on an account at an instant of the store's time."""

    spent: int
    at_ms: int


class Speeds:
    """Remembers what accounts had spent ten to twenty minutes ago."""

    def __init__(self) -> None:
        self._before: tuple[dict[str, int], int] | None = None
        self._since: tuple[dict[str, int], int] | None = None

    def turn(self, rows: Iterable[AccountRow], now_ms: int) -> None:
        """Each ten minutes what was remembered last becomes what was before."""
        since_ms = now_ms - self._since[1] if self._since is not None else RECENT_MS
        if not 0 <= since_ms < RECENT_MS:
            self._before = self._since if 0 <= since_ms < 2 * RECENT_MS else None
            self._since = {row.account.key: row.spent for row in rows if row.spent}, now_ms

    def before(self, account: Account) -> Level | None:
        """What was spent then in the account's window, if that had begun and anybody looked."""
        if self._before is None or (account.window_start_ms or 0) > self._before[1]:
            return None
        return Level(self._before[0].get(account.key, 0), self._before[1])


def burning(
    limited: Iterable[tuple[AccountRow, int]], share: float, speeds: Speeds, now_ms: int, policy: Policy
) -> Iterator[Found]:
    """The alerts of accounts, each with its limit."""
    for row, limit in limited:
        account = row.account
        start_ms, end_ms = account.window_start_ms, account.window_end_ms
        if account.period.name not in _NAMES or start_ms is None or end_ms is None or not start_ms <= now_ms < end_ms:
            continue
        if share * limit <= row.spent < limit and now_ms - start_ms >= YOUNG_MS:
            left_ms, speed = _left_ms(row, limit, start_ms, end_ms, speeds.before(account), now_ms)
            if left_ms is not None and now_ms + left_ms < end_ms - (end_ms - start_ms) // LAST_PART:
                alert = _alert(row, limit, now_ms, left_ms, speed, policy)
                yield found([account.key], end_ms - now_ms + HOUR_MS, alert)


def _left_ms(
    row: AccountRow, limit: int, start_ms: int, end_ms: int, before: Level | None, now_ms: int
) -> tuple[int | None, str]:
    """How long the rest lasts at the faster of the two speeds, and which that is; None where it is not to be told."""
    left, found_ms, speed = limit - row.spent, None, ""
    passed_ms = now_ms - start_ms
    if passed_ms * WINDOW_PART >= end_ms - start_ms:
        found_ms, speed = left * passed_ms // row.spent, f"as since {row.account.period.label} began"
    if before is not None and row.spent > before.spent:
        recent_ms = left * (now_ms - before.at_ms) // (row.spent - before.spent)
        if recent_ms <= AHEAD_MS and (found_ms is None or recent_ms < found_ms):
            minutes = (now_ms - before.at_ms) // MINUTE_MS
            found_ms, speed = recent_ms, f"as in the last {minutes} minutes"
    return found_ms, speed


def _alert(row: AccountRow, limit: int, now_ms: int, left_ms: int, speed: str, policy: Policy) -> AlertRaised:
    account: Account = row.account
    unit, zone = account.unit, account.period.zone
    at_ms, end_ms = now_ms + left_ms, account.window_end_ms or now_ms
    text = (
        f"{account_text(account)}: {limit_text(account, limit)} will be exhausted at {clock_text(at_ms, now_ms, zone)} "
        f"if it goes on {speed}; it resets at {clock_text(end_ms, now_ms, zone)}, and "
        f"{amount_text(unit, row.spent)} is spent"
    )
    figures = {
        f"limit{unit_suffix(unit)}": limit, f"spent{unit_suffix(unit)}": row.spent, "exhausted_at_ms": at_ms,
        "resets_at_ms": end_ms, "period": str(account.period),
    }  # fmt: skip
    return AlertRaised("burn_rate", text, labels_of(account, policy), account.budget, figures)
