"""HTML and SVG made of tags: whatever is not markup already becomes text, whoever wrote it."""

from __future__ import annotations

from html import escape

from budgetguard.refusal import escaped


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Content = Markup | str | int | float


def tag(name: str, *children: Content, **attributes: Content | None) -> Markup:
    """An element. Attributes are named with `_` for `-` (`class_` is `class`); those that are None are left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*children: Content) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def text(words: Content) -> Markup:
    """Words as text: no markup, and no control or format character that would turn or hide what stands beside it."""
    return Markup(escape(escaped(f"{words:g}" if isinstance(words, float) else str(words))))
