"""Labels: what may be one, and that those of `acting_as` are in force exactly where the code says."""

from __future__ import annotations

import asyncio
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import InvalidLabel
from budgetguard.labels import acting_as, check_label, current_labels

STRANGE = [
    "a",
    "x" * 512,
    "é" * 256,
    "\U0001f600" * 128,
    "\0",
    "a\nb",
    '{"}',
    "(none)",
    " ",
    "ﬁ",
    "e\u0301",
    "\u202e",
    "a,b=c",
]


def labels() -> dict[str, str]:
    return dict(current_labels())


@pytest.mark.parametrize("text", STRANGE)
def test_any_text_of_1_to_512_bytes_is_a_label_and_kept_exactly(text: str) -> None:
    check_label(text, text)
    with acting_as(labels={text: text}):
        assert labels() == {text: text}


@pytest.mark.parametrize(
    "bad", ["", "x" * 513, "é" * 257, "x" * 1_000_000, "\ud800", "a\udfffb", None, 5, 1.5, True, b"team", ["a"], {}]
)
def test_anything_else_is_an_error_that_names_the_label_and_is_short(bad: object) -> None:
    with pytest.raises(InvalidLabel, match="label 'team' must be text") as of_value:
        check_label("team", bad)
    with pytest.raises(InvalidLabel, match="a label's name must be text") as of_name:
        check_label(bad, "search")
    for error in (of_value, of_name):
        assert len(str(error.value)) < 200
        assert str(error.value).isprintable()
        assert str(error.value).isascii()


@given(st.text(st.characters(), max_size=600))
def test_a_label_is_judged_by_its_size_in_utf_8(text: str) -> None:
    try:
        fits = 1 <= len(text.encode()) <= 512
    except UnicodeEncodeError:
        fits = False
    try:
        check_label("team", text)
    except InvalidLabel:
        assert not fits
    else:
        assert fits


def test_inner_labels_override_outer_ones_one_by_one_and_end_with_their_block() -> None:
    with acting_as(team="a", agent="x", labels={"env": "prod"}):
        with acting_as(team="b", user="u"):
            assert labels() == {"team": "b", "agent": "x", "user": "u", "env": "prod"}
        with pytest.raises(ZeroDivisionError), acting_as(team="c"):
            _ = 1 / 0
        assert labels() == {"team": "a", "agent": "x", "env": "prod"}
    assert labels() == {}


def test_none_says_nothing_and_every_usual_label_has_its_parameter() -> None:
    with acting_as(team="outer"), acting_as(team=None, agent="a", session="s", task="t", user="u"):
        assert labels() == {"team": "outer", "agent": "a", "session": "s", "task": "t", "user": "u"}


def test_the_labels_in_force_cannot_be_changed_in_passing() -> None:
    with acting_as(team="a"), pytest.raises(TypeError):
        current_labels()["team"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"team": ""}, "team"),
        ({"agent": 5}, "agent"),
        ({"labels": {"tenant": "\ud800"}}, "tenant"),
        ({"labels": {5: "x"}}, "name"),
        ({"labels": "team=a"}, "labels"),
        ({"team": "a", "labels": {"team": "b"}}, "'team' is given twice"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_in_force(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidLabel, match=named):
        acting_as(**arguments)  # type: ignore[arg-type]
    assert labels() == {}


def test_one_scope_can_be_entered_again_inside_itself() -> None:
    scope = acting_as(team="a")
    with scope:
        with scope, acting_as(team="b"), scope:
            assert labels() == {"team": "a"}
        assert labels() == {"team": "a"}
    assert labels() == {}


async def _interleaved(scope: acting_as, own: str, turn: asyncio.Barrier) -> dict[str, str]:
    with acting_as(agent=own):
        await turn.wait()
        with scope:
            await turn.wait()
            seen = labels()
            await turn.wait()
        assert labels() == {"agent": own}
    return seen


def test_tasks_share_a_scope_and_keep_their_own_labels_apart() -> None:
    async def main() -> list[dict[str, str]]:
        turn, scope = asyncio.Barrier(3), acting_as(team="a")
        return await asyncio.gather(*(_interleaved(scope, str(number), turn) for number in range(3)))

    assert asyncio.run(main()) == [{"agent": str(number), "team": "a"} for number in range(3)]


def test_a_task_inherits_the_labels_of_its_creator() -> None:
    async def child() -> dict[str, str]:
        return labels()

    async def main() -> dict[str, str]:
        with acting_as(team="a"):
            task = asyncio.create_task(child())
        assert labels() == {}
        return await task

    assert asyncio.run(main()) == {"team": "a"}


def test_a_decorated_function_keeps_its_name_arguments_and_result() -> None:
    @acting_as(team="a")
    def plain(x: int, *, y: int) -> tuple[int, dict[str, str]]:
        """Doc."""
        return x + y, labels()

    assert plain(1, y=2) == (3, {"team": "a"})
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    assert labels() == {}


def test_a_decorated_coroutine_has_the_labels_while_it_runs_only() -> None:
    @acting_as(team="a")
    async def work() -> dict[str, str]:
        await asyncio.sleep(0)
        return labels()

    class Worker:
        @acting_as(agent="method")
        async def work(self) -> dict[str, str]:
            return labels()

        async def __call__(self) -> dict[str, str]:
            return labels()

    async def main() -> None:
        coroutine = work()
        assert labels() == {}
        assert await coroutine == {"team": "a"}
        assert await Worker().work() == {"agent": "method"}
        assert await acting_as(team="b")(Worker())() == {"team": "b"}
        assert await acting_as(team="b")(functools.partial(work))() == {"team": "a"}
        assert labels() == {}

    assert asyncio.iscoroutinefunction(work)
    asyncio.run(main())


@pytest.mark.parametrize("wrong", [5, None, "text", int])
def test_only_functions_can_be_decorated(wrong: object) -> None:
    with pytest.raises(TypeError, match="acting_as decorates functions"):
        acting_as(team="a")(wrong)  # type: ignore[type-var]
