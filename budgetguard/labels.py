"""The labels of a call: what may be one, and how code states on whose behalf it acts."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from budgetguard.core.amounts import shown
from budgetguard.errors import ConfigError, InvalidLabel

LABEL_BYTES = 512
"""The longest name or value of a label, in UTF-8 bytes."""
LABELS_VARIABLE = "BUDGETGUARD_LABELS"

P = ParamSpec("P")
R = TypeVar("R")
Fn = TypeVar("Fn", bound=Callable[..., Any])


def check_label(name: Any, value: Any) -> None:
    """Pass a label whose name and value are text of 1 to 512 UTF-8 bytes; any such text is legal, and kept exactly.

    Raises:
        InvalidLabel: names the label.
    """
    fault = label_text_fault(name)
    if fault is not None:
        raise InvalidLabel(f"a label's name {fault}, not {shown(name)}")
    fault = label_text_fault(value)
    if fault is not None:
        raise InvalidLabel(f"label {shown(name)} {fault}, not {shown(value)}")


def label_text_fault(value: Any) -> str | None:
    """What is wrong with one half of a label ("must be ..."), None if nothing is."""
    if not isinstance(value, str):
        return "must be text"
    if 0 < len(value) <= LABEL_BYTES and value.isascii():
        return None
    try:
        size = len(value[: LABEL_BYTES + 1].encode())
    except UnicodeEncodeError:
        return "must be text that UTF-8 can write, without lone surrogates"
    return None if 0 < size <= LABEL_BYTES else f"must be text of 1 to {LABEL_BYTES} UTF-8 bytes"


class _Frame(NamedTuple):
    """One `acting_as` in force, and those around it. `labels` are all of theirs together."""

    scope: acting_as
    labels: Mapping[str, str]
    outer: _Frame | None


_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_frame: ContextVar[_Frame | None] = ContextVar("budgetguard_labels", default=None)


def current_labels() -> Mapping[str, str]:
    """The labels that `acting_as` has put in force here, the inner ones over the outer ones."""
    frame = _frame.get()
    return _NO_LABELS if frame is None else frame.labels


class acting_as:
    """Every guarded call inside is made with these labels; None says nothing of a label.

    As `with`, or as a decorator of functions, async functions, generators and async generators: the labels are in
    force whenever the body runs, and not while a generator is suspended. Inner labels override outer ones one by one.
    Can be entered again, also by several tasks at once.

    Args:
        labels: any others, by name.

    Raises:
        InvalidLabel: a name or value is not text of 1 to 512 UTF-8 bytes, or a label is given twice; names it.
    """

    def __init__(
        self,
        *,
        team: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        task: str | None = None,
        user: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        own = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
        said = {name: value for name, value in own.items() if value is not None}
        if labels is not None and not isinstance(labels, Mapping):
            raise InvalidLabel(f'labels must map names to values, such as {{"tenant": "acme"}}, not {shown(labels)}')
        for name, value in (labels or {}).items():
            if name in said:
                raise InvalidLabel(f"label {shown(name)} is given twice: as an argument and in labels")
            said[name] = value
        for name, value in said.items():
            check_label(name, value)
        self._labels = said

    def __enter__(self) -> None:
        _frame.set(_entered(self, _frame.get()))

    def __exit__(self, *_: object) -> None:
        _frame.set(_without(self, _frame.get()))

    def __call__(self, fn: Fn) -> Fn:
        if isinstance(fn, type) or not callable(fn):
            raise TypeError(f"acting_as decorates functions and generators, not {shown(fn)}")
        return cast(Fn, _decorated(self, fn))


def _entered(scope: acting_as, outer: _Frame | None) -> _Frame:
    labels = scope._labels if outer is None else {**outer.labels, **scope._labels}
    return _Frame(scope, MappingProxyType(labels), outer)


def _without(scope: acting_as, frame: _Frame | None) -> _Frame | None:
    """The frames but for the innermost one of `scope`, which need not be on top (a `with` in a plain generator)."""
    if frame is None or frame.scope is scope:
        return frame and frame.outer
    outer = _without(scope, frame.outer)
    return frame if outer is frame.outer else _entered(frame.scope, outer)


def _decorated(scope: acting_as, fn: Callable[..., Any]) -> Callable[..., Any]:
    body = fn if inspect.isroutine(fn) or isinstance(fn, partial) else type(fn).__call__
    if inspect.isasyncgenfunction(body):
        return _async_generator(scope, fn)
    if inspect.isgeneratorfunction(body):
        return _generator(scope, fn)
    if inspect.iscoroutinefunction(body):

        @wraps(fn)
        async def acting_async(*args: Any, **kwargs: Any) -> Any:
            with scope:
                return await fn(*args, **kwargs)

        return acting_async

    @wraps(fn)
    def acting(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return fn(*args, **kwargs)

    return acting


class _Body:
    """The frames of one generator's body: in force while it runs, put away while it is suspended."""

    def __init__(self, scope: acting_as) -> None:
        self._scope = scope
        self._inside: _Frame | None = None
        self._outside: _Frame | None = None

    def __enter__(self) -> None:
        self._outside = _frame.get()
        _frame.set(self._inside or _entered(self._scope, self._outside))

    def __exit__(self, *_: object) -> None:
        self._inside = _frame.get()
        _frame.set(self._outside)


def _generator(scope: acting_as, fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    def acting(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inside, steps = _Body(scope), fn(*args, **kwargs)
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            with inside:
                try:
                    item = resume()
                except StopIteration as end:
                    return end.value
            try:
                resume = partial(steps.send, (yield item))
            except GeneratorExit:
                with inside:
                    steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the body, whatever it is
                resume = partial(steps.throw, error)

    return acting


def _async_generator(scope: acting_as, fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    async def acting(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inside, steps = _Body(scope), fn(*args, **kwargs)
        resume: Callable[[], Any] = partial(anext, steps)
        while True:
            with inside:
                try:
                    item = await resume()
                except StopAsyncIteration:
                    return
            try:
                resume = partial(steps.asend, (yield item))
            except GeneratorExit:
                with inside:
                    await steps.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the body, whatever it is
                resume = partial(steps.athrow, error)

    return acting


def carry(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn` for another thread: it runs with the labels (the whole context) in force where `carry` was called.

    Every call runs in a copy of that context of its own, so that it may be called often, and by several threads at
    once. Tasks of asyncio need none of this: they inherit the labels.

    Raises:
        TypeError: `fn` is an async function or a generator, whose body would run outside the context.
    """
    if not callable(fn) or any(
        check(fn) for check in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise TypeError(f"carry takes a plain function to be called in another thread, not {shown(fn)}")
    context = copy_context()

    @wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(fn, *args, **kwargs)

    return carried


def labels_from_env(text: str) -> dict[str, str]:
    """The labels that BUDGETGUARD_LABELS states: `team=search,env=prod`.

    Labels are separated by commas; the first "=" ends a name; spaces around names and values are left out. So a
    value cannot contain a comma here: state such a label with `acting_as`. An empty text states none.

    Raises:
        ConfigError: names the variable and every part of it that is wrong.
    """
    labels: dict[str, str] = {}
    faults = []
    for part in text.split(",") if text.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            faults.append(f"{shown(part)} must be name=value, as in team=search,env=prod")
        elif name in labels:
            faults.append(f"label {shown(name)} is given twice: keep one of them")
        else:
            try:
                check_label(name, value)
            except InvalidLabel as error:
                faults.append(str(error))
            labels[name] = value
    if faults:
        raise ConfigError(LABELS_VARIABLE, faults)
    return labels
