"""How LiteLLM passes a call on: labels that it would lose between threads, and refusals that it would make its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from typing import Any

from budgetguard.errors import BudgetGuardError
from budgetguard.refusal import refusal_in
from budgetguard.within import stop_at_refusal

_PACKAGE = "litellm"
_RETRYING = ("completion_with_retries", "responses_with_retries")
_RETRYING_ASYNC = ("acompletion_with_retries", "aresponses_with_retries")
_met: ContextVar[list[BudgetGuardError]] = ContextVar("budgetguard_litellm_met")
"""The errors of ours that attempts have met, the first one first."""


def refusal_of(error: Any) -> BudgetGuardError | None:
    """The error of ours that one of LiteLLM's was made from."""
    found: BudgetGuardError | None = refusal_in(error)
    while found is None and error is not None:
        found = error if isinstance(error, BudgetGuardError) else None
        error = error.__cause__ or error.__context__
    return found


def carry_labels() -> None:
    """What LiteLLM does in threads (batches, fallbacks of plain calls, experiments) has the labels of its caller.

    It makes its executors inside its functions: they are told by who hands them something to do.
    """
    from litellm import Router as kind

    submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    @wraps(submit)
    def submitted(self: Any, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.partition(".")[0] == _PACKAGE:
            return submit(self, copy_context().run, fn, *args, **options)
        return submit(self, fn, *args, **options)

    ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign]
    mirror = kind._silent_experiment_completion
    kind._silent_experiment_completion = property(lambda self: partial(copy_context().run, mirror, self))


def tell_refusals_as_they_are() -> None:
    """Where LiteLLM maps errors, counts retries, falls back or rests a deployment, errors of ours come first."""
    from litellm import main, utils
    from litellm.images import main as images
    from litellm.litellm_core_utils import exception_mapping_utils as mapping
    from litellm.litellm_core_utils import fallback_utils as fallbacks
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper as stream
    from litellm.router import Router as kind

    def raised(error: Any) -> None:
        if (refusal := refusal_of(error)) is not None:
            _met.get([]).append(refusal)
            raise refusal

    _everywhere(
        mapping,
        "exception_type",
        lambda then: _after(lambda model=None, original_exception=None, *_, **__: raised(original_exception), then),
    )
    _everywhere(fallbacks, "async_completion_with_fallbacks", _stopping_async)
    for name in _RETRYING:
        _everywhere(main, name, _stopping)
    for name in _RETRYING_ASYNC:
        _everywhere(main, name, _stopping_async)
    _everywhere(images, "image_variation", _unmasked)
    stream._handle_stream_fallback_error = _unmasked(stream._handle_stream_fallback_error)
    _instead(utils, "_get_wrapper_num_retries", lambda kwargs, exception: (None, kwargs), lambda a, k: k["exception"])
    for name in ("should_retry_this_error", "async_function_with_fallbacks_common_utils"):
        setattr(kind, name, _after(lambda self, error, *_, **__: raised(error), getattr(kind, name)))
    _instead(kind, "deployment_callback_on_failure", lambda *_: False, lambda a, k: _failure(a, k))


def _failure(args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    return (options.get("kwargs") or args[1]).get("exception")


def _everywhere(module: Any, name: str, changed: Callable[[Any], Any]) -> None:
    """Change a function in its module, and wherever LiteLLM has imported it to."""
    original = getattr(module, name)
    made = changed(original)
    setattr(module, name, made)
    for other in [other for known, other in sys.modules.items() if known.partition(".")[0] == _PACKAGE]:
        if vars(other).get(name) is original:
            setattr(other, name, made)


def _after(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(then)
    def both(*args: Any, **options: Any) -> Any:
        first(*args, **options)
        return then(*args, **options)

    return both


def _unmasked(raising: Callable[..., Any]) -> Callable[..., Any]:
    """What raises an error made of another raises ours instead, if it is one of ours."""

    @wraps(raising)
    def unmasked(*args: Any, **options: Any) -> Any:
        try:
            return raising(*args, **options)
        except Exception as error:
            if (refusal := refusal_of(error)) is not None:
                raise refusal from None
            raise

    return unmasked


@contextmanager
def _first_refusal() -> Iterator[None]:
    """Of several attempts the first refusal is the last word; what is raised is the first error of ours."""
    stop, met = stop_at_refusal(), _met.set([])
    try:
        with stop:
            yield
    except Exception:
        first = stop.refusal or next(iter(_met.get()), None)
        if first is not None:
            raise first from None
        raise
    finally:
        _met.reset(met)


def _stopping(attempts: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(attempts)
    def stopped(*args: Any, **options: Any) -> Any:
        with _first_refusal():
            return attempts(*args, **options)

    return stopped


def _stopping_async(attempts: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(attempts)
    async def stopped(*args: Any, **options: Any) -> Any:
        with _first_refusal():
            return await attempts(*args, **options)

    return stopped


def _instead(holder: Any, name: str, ours: Callable[..., Any], error_of: Callable[[Any, Any], Any]) -> None:
    others = getattr(holder, name)

    @wraps(others)
    def either(*args: Any, **options: Any) -> Any:
        return (others if refusal_of(error_of(args, options)) is None else ours)(*args, **options)

    setattr(holder, name, either)
