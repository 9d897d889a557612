"""The charts of a report, as SVG without script: columns over time, bars by group, and of what the tokens were.

Colours are classes (`s0`, `s1`, ...), so that the page says them, for light and for dark. Sizes are in the units of the
chart's own view box; the page makes it as wide as there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from budgetguard.core.amounts import NANOUSD_PER_USD
from budgetguard.core.periods import zone_of
from budgetguard.reports.markup import Markup, joined, tag
from budgetguard.reports.names import OTHERS
from budgetguard.reports.over_time import Timeline

BAR_WIDTH, BAR_HEIGHT, ROW_HEIGHT = 400, 9, 37
LABEL_CHARS = 40
LABEL_WIDTH = 58
TICKS = 4
GREY = "s-rest"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Bar(NamedTuple):
    """A row of a chart of bars: what it is called, its parts in the order of their colours, and its value as shown."""

    name: str
    parts: Sequence[int]
    shown: str


def colour_of(place: int, name: str = "") -> str:
    """The class of a series; what is put together as others is grey."""
    return GREY if name == OTHERS else f"s{place}"


def shortened(name: str, most: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def columns(timeline: Timeline, zone: str, id: str, title: str, width: int, height: int) -> Markup:
    """Stacked columns over time, in a view box of this size; each piece says what it is when it is pointed at."""
    left, top, bottom, right = 56, 10, 26, 6
    room, high = width - left - right, height - top - bottom
    step = _nice_step(max(timeline.heights, default=0) / TICKS)
    most = step * max(1, -(-max(timeline.heights, default=0) // step))
    stride = room / max(1, len(timeline.times))
    broad = min(44.0, stride * 0.86 if stride < 8 else stride - min(6, stride * 0.25))
    grid = [
        _grid_line(left, width - right, top + high - high * at / most, _tick(at, step, timeline.in_dollars))
        for at in range(0, most + 1, step)
    ]
    pieces = []
    for place, moment in enumerate(timeline.times):
        base, x = 0, left + place * stride + (stride - broad) / 2
        for number, series in enumerate(timeline.series):
            amount = series.amounts[place]
            if amount:
                said = ", ".join(part for part in (moment, series.name, _value(amount, timeline.in_dollars)) if part)
                y, tall = top + high - high * (base + amount) / most, high * amount / most
                pieces.append(_piece(x, y, broad, tall, colour_of(number, series.name), said))
            base += amount
    desc = f"{len(timeline.times)} columns, one for each {timeline.step}; the table below has the numbers."
    times = _time_labels(timeline, zone, left, stride, height - 8, room)
    return _svg(id, title, desc, width, height, *grid, *pieces, *times)


def bars(rows: Sequence[Bar], id: str, title: str, colours: Callable[[int], str]) -> Markup:
    """A bar for each row, below its name, of parts in these colours."""
    most = max((sum(row.parts) for row in rows), default=0) or 1
    drawn: list[Markup] = []
    for number, row in enumerate(rows):
        y, x = number * ROW_HEIGHT, 0.0
        drawn.append(
            tag("text", tag("title", row.name), shortened(row.name, LABEL_CHARS), x=0, y=y + 14, class_="name")
        )
        drawn.append(tag("text", row.shown, x=BAR_WIDTH, y=y + 14, class_="value", text_anchor="end"))
        drawn.append(_piece(0, y + 20, BAR_WIDTH, BAR_HEIGHT, "track", ""))
        for place, part in enumerate(row.parts):
            wide = BAR_WIDTH * part / most
            if part:
                drawn.append(_piece(x, y + 20, wide, BAR_HEIGHT, colours(place), f"{row.name}: {row.shown}"))
            x += wide
    desc = f"{len(rows)} bars, of what cost most first; the table at the end has the numbers."
    return _svg(id, title, desc, BAR_WIDTH, max(1, len(rows)) * ROW_HEIGHT, *drawn)


def _svg(id: str, title: str, desc: str, width: int, height: int, *drawn: Markup) -> Markup:
    return tag(
        "svg", tag("title", title, id=f"{id}-title"), tag("desc", desc, id=f"{id}-desc"), *drawn, id=id, role="img",
        viewBox=f"0 0 {width} {height}", aria_labelledby=f"{id}-title {id}-desc",
    )  # fmt: skip


def _piece(x: float, y: float, wide: float, tall: float, colour: str, said: str) -> Markup:
    inside = [tag("title", said)] if said else []
    return tag(
        "rect", *inside, x=round(x, 2), y=round(y, 2), width=round(max(wide, 0.5), 2), height=round(max(tall, 0.5), 2),
        class_=colour,
    )  # fmt: skip


def _grid_line(left: float, right: float, y: float, said: str) -> Markup:
    line = tag("line", x1=left, x2=right, y1=round(y, 1), y2=round(y, 1), class_="grid")
    return joined(line, tag("text", said, x=left - 8, y=round(y + 4, 1), class_="axis", text_anchor="end"))


def _time_labels(timeline: Timeline, zone: str, left: int, stride: float, y: int, room: int) -> list[Markup]:
    """As many as there is room for, each below its column; of hours those that midnight is one of."""
    every = max(1, -(-len(timeline.times) * LABEL_WIDTH // room))
    moments = [datetime.fromtimestamp(start_ms / 1000, zone_of(zone)) for start_ms in timeline.starts_ms]
    if timeline.step == "hour":
        every = next(hours for hours in (1, 2, 3, 6, 12, 24) if hours >= min(every, 24))
        places = [place for place, at in enumerate(moments) if at.hour % every == 0 and at.minute == 0]
    else:
        places = list(range(0, len(moments), every))
    return [
        tag("text", _moment(timeline, place, moments[place]), x=round(left + (place + 0.5) * stride, 1), y=y,
            class_="axis", text_anchor="middle")
        for place in places
    ]  # fmt: skip


def _moment(timeline: Timeline, place: int, at: datetime) -> str:
    """`22 Nov`, an hour `14:00`, a week `W47`, a month `Nov 26`."""
    month = MONTHS[at.month - 1]
    if timeline.step == "hour":
        return f"{at.day} {month}" if at.hour == 0 else f"{at:%H:%M}"
    if timeline.step == "week":
        return timeline.times[place].partition("-")[2]
    return f"{month} {at:%y}" if timeline.step == "month" else f"{at.day} {month}"


def _nice_step(least: float) -> int:
    """The least of 1, 2, 5, 10, 20 ... that is not below it."""
    power = 1
    while power * 10 < least:
        power *= 10
    return next(number * power for number in (1, 2, 5, 10) if number * power >= least)


def _tick(at: int, step: int, in_dollars: bool) -> str:
    if not in_dollars:
        return short_count(at)
    if step >= 1_000 * NANOUSD_PER_USD:
        return f"${short_count(at // NANOUSD_PER_USD)}"
    places = next(places for places in range(10) if step * 10**places % NANOUSD_PER_USD == 0)
    return f"${at / NANOUSD_PER_USD:,.{places if places == 0 else max(2, places)}f}"


def _value(amount: int, in_dollars: bool) -> str:
    return f"${amount / NANOUSD_PER_USD:,.4f}" if in_dollars else f"{amount:,} tokens"


def short_count(number: int) -> str:
    """`950`, `12.3k`, `4.6M`, `1.2B`."""
    for suffix, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + suffix
    return str(number)
