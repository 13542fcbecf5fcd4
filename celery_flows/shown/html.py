"""HTML for notebooks: escaped, without anything from elsewhere, legible on light grounds and dark ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from celery_flows.shown.colours import colour_of
from celery_flows.shown.words import ago, printable

_LINE: Final = "1px solid rgba(128,128,128,.35)"
_BAR: Final = (
    f"display:flex;height:.8em;max-width:36em;margin:.3em 0;border:{_LINE};border-radius:.4em;overflow:hidden"
)
_CELL: Final = "text-align:left;vertical-align:top;padding:.2em .9em .2em 0;background:none"
_HEAD: Final = f"{_CELL};border-bottom:{_LINE}"
_TABLE: Final = "border-collapse:collapse;color:inherit;font-size:inherit"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Markup:
    """An element; children and attributes that are not HTML are escaped."""
    # Names that Python has for itself end with an underscore.
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{given}>{''.join(map(_escaped, children))}</{tag}>")


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(printable(child))


def card(*children: str) -> str:
    """What a notebook shows of one thing."""
    return element("div", *children, style="line-height:1.5;max-width:60em")


def title(kind: str, name: str, text: str | None) -> Markup:
    """What a thing is, its id, and what its user says of it."""
    said = (" ", text) if text else ()
    return element("div", element("strong", kind), " ", element("code", name), *said)


def facts(*texts: str) -> Markup:
    """A line of facts."""
    separated = [part for text in texts for part in (" · ", text)]
    return element("div", *separated[1:])


def state(word: str) -> Markup:
    """A state in its colour."""
    return element("strong", word, style=f"color:{colour_of(word)}")


def as_of(age: float) -> Markup:
    """When something was read. A page keeps what it says, so the moment stands there too."""
    moment = datetime.now(UTC) - timedelta(seconds=age)
    return element("small", f"as of {moment:%Y-%m-%d %H:%M:%S} UTC ({ago(age)})", style="opacity:.75")


def bar(parts: Mapping[str, int], total: int) -> Markup:
    """A bar with a part for each state."""
    said = ", ".join(f"{number:,} {name}" for name, number in parts.items() if number) or "nothing"
    inner = [
        element("div", style=f"width:{100 * number / total:.4f}%;background:{colour_of(name)}", title=name)
        for name, number in parts.items()
        if number
    ]
    return element("div", *inner, role="img", aria_label=said, style=_BAR)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """A table, without the columns in which nothing stands, and with a line under it."""
    cells = list(rows)
    wanted = [at for at in range(len(heads)) if any(row[at] for row in cells)]
    head = element("tr", *(element("th", heads[at], style=_HEAD) for at in wanted))
    body = [element("tr", *(element("td", row[at], style=_CELL) for at in wanted)) for row in cells]
    whole = element("table", element("thead", head), element("tbody", *body), style=_TABLE)
    return element("div", whole, *([element("small", note)] if note else []), style="overflow-x:auto")
