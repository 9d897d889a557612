"""Events as log lines: through the user's own structlog configuration, else one readable line to the standard log.

- Where structlog is configured: `structlog.get_logger("budgetguard")`, the event's name and its flat keys.
- Else: `logging.getLogger("budgetguard")`, as `budget.refused team=search limit_nanousd=5000000000 ...`. If nobody has
  configured that either, Python prints warnings and errors on stderr, and nothing else.

Keys are those of `Event.fields()`: labels under their own names, amounts with their unit (`limit_tokens`,
`spent_nanousd`), times with theirs (`latency_ms`). A label whose name is a key already, or means something to a logger,
is `label_<name>`. What does not print is escaped, and passwords in URLs are left out.

What repeats is told once and then counted (`repeats`): once a minute `budget.refused_summary` says `count`, how many
`kinds` (accounts, or other causes) and the `most` frequent ones; `budget.overage_summary` and others likewise.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Mapping
from typing import Any, cast

from budgetguard.events import Event, Observer
from budgetguard.refusal import escaped
from budgetguard.repeats import Repeats

SUMMARY_EVERY_S = 60
MOST_SHOWN = 5
RESERVED = frozenset(
    ("event", "self", "level", "logger", "timestamp", "exc_info", "stack", "stacklevel", "stackLevel", "exception",
     "positional_args", "extra", "message", "asctime", "taskName", *vars(logging.makeLogRecord({})))
)  # fmt: skip
"""What structlog's functions and processors call things, and the attributes of the standard log's records."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CREDENTIALS = re.compile(r"://[^\s/]*@")
_PLAIN = re.compile(r'[^\s"=]+')
_logger = logging.getLogger("budgetguard")
_observers: weakref.WeakSet[LogObserver] = weakref.WeakSet()


class LogObserver:
    """Writes every event to the log; what repeats, once and then in sums. From any thread."""

    def __init__(self) -> None:
        self._repeats = Repeats()
        self._waiting_in: AbstractEventLoop | None = None
        _observers.add(self)

    def on_event(self, event: Event) -> None:
        if not (_logger.isEnabledFor(_LEVELS[event.level]) or _structlog_configured()):
            return
        try:
            if self._repeats.is_new(event):
                _write(event.level, event.name, event.fields())
            else:
                self._summarise_later()
        except Exception as error:  # noqa: BLE001 - accounting goes on whatever a log's processors and filters do
            _write_failed(event.name, error)

    def observer_failed(self, observer: Observer, event: Event, error: Exception) -> None:
        """An observer raised; its error is told once a minute."""
        if self._repeats.is_new_failure(type(observer).__qualname__, event.name, type(error).__name__):
            keys = {"observer": type(observer).__qualname__, "failed_on": event.name, "error": repr(error)}
            _write("error", "budget.observer_failed", keys)

    def summarise(self) -> None:
        """Say how often what was told before has happened since."""
        self._waiting_in = None
        for name, sums in self._repeats.take().items():
            most = [f"{kind}: {count}" for kind, count in sums.kinds.most_common(MOST_SHOWN)]
            keys = {"count": sums.count, "kinds": len(sums.kinds), "most": most}
            try:
                _write("warning", f"{name}_summary", keys)
            except Exception as error:  # noqa: BLE001 - as in `on_event`
                _write_failed(name, error)

    def _summarise_later(self) -> None:
        """Within a minute, in the event loop of the call; at exit, should that loop have ended."""
        if self._waiting_in is None or self._waiting_in.is_closed():
            self._waiting_in = get_running_loop()
            self._waiting_in.call_later(SUMMARY_EVERY_S, self.summarise)


@atexit.register
def _summarise_at_exit() -> None:
    for observer in list(_observers):
        observer.summarise()


def _structlog_configured() -> bool:
    """Whether the user has configured structlog. Who has not imported it has not."""
    structlog = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


def _write(level: str, name: str, keys: Mapping[str, Any]) -> None:
    shown = {_key(key): _shown(value) for key, value in keys.items()}
    if _structlog_configured():
        import structlog

        getattr(structlog.get_logger("budgetguard"), level)(name, **shown)
    else:
        pairs = [f"{_word(key)}={_word(value)}" for key, value in shown.items() if value not in (None, "", [])]
        _logger.log(_LEVELS[level], " ".join([name, *pairs]))


def _key(name: str) -> str:
    return f"label_{name}" if name in RESERVED else escaped(name)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(_CREDENTIALS.sub("://***@", value))
    return [_shown(item) for item in value] if isinstance(value, (list, tuple)) else value


def _word(value: Any) -> str:
    """A value as one word of a line: in double quotes where it would not be one."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', "'") + '"'


def _write_failed(name: str, error: Exception) -> None:
    """As the handlers of `logging` do with their own errors."""
    if logging.raiseExceptions and sys.stderr is not None:
        cast(Any, sys.stderr).write(f"budgetguard: the log failed on {name}: {escaped(repr(error))}\n")
