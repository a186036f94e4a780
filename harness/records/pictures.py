"""The picture of a table, which follows from the kinds of its columns: a map over two indices (layer x head, layer x
position), a curve over one, nothing without. Where several rows stand at one place their mean is drawn.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.contracts.table import INDICES, Column, Table, Value
from harness.terminal.visible import line

MOST = 12  # panels of a picture, and curves of a panel; what else a table holds is in its file
LABEL = 40  # characters of a label
LONG = 24  # places on an axis up to which a curve marks every one
Places = Mapping[tuple[int, ...], float]  # index values -> mean


@dataclass(frozen=True)
class Panel:
    """`axes`: one index column (curves) or two (a map: down, across). `series`: label -> mean by place, one of them in a map."""

    axes: tuple[Column, ...]
    unit: str
    series: Mapping[str, Places]


def panels(table: Table) -> list[Panel]:
    """A map for every number column and every combination of texts; curves of one unit share a panel."""
    axes = tuple(c for kind in INDICES for c in table.of_kind(kind))[:2]
    units = {column.name: column.unit for column in table.of_kind("number")}
    found = {(name, text): places for name in units for text, places in _by_text(table, axes, name).items()}
    if not axes or not found:
        return []
    if len(axes) == 2:
        return [Panel(axes, units[key[0]], {_label(*key): places}) for key, places in found.items()][:MOST]
    by_unit: dict[str, dict[str, Places]] = {}
    for (name, text), places in found.items():
        by_unit.setdefault(units[name], {})[_label(name, text)] = places
    return [Panel(axes, unit, dict(list(series.items())[:MOST])) for unit, series in by_unit.items()][:MOST]


def _by_text(table: Table, axes: tuple[Column, ...], name: str) -> dict[str, Places]:
    """The column `name` for each combination of texts: its mean at every place."""
    index = [table.values(axis.name) for axis in axes]
    texts = [table.values(column.name) for column in table.of_kind("text")]
    found: dict[str, dict[tuple[int, ...], list[float]]] = {}
    for i, value in enumerate(table.values(name)):
        place = tuple(values[i] for values in index)
        if value is not None and None not in place:
            text = ", ".join(str(values[i]) for values in texts if values[i] is not None)
            found.setdefault(text, {}).setdefault(_whole(place), []).append(float(value))
    return {text: {place: fmean(values) for place, values in places.items()} for text, places in found.items()}


def _whole(place: tuple[Value, ...]) -> tuple[int, ...]:
    return tuple(int(value) for value in place if value is not None)


def _label(name: str, text: str) -> str:
    return line(f"{name}: {text}" if text else name, LABEL)


def draw(table: Table, title: str) -> bytes | None:
    """A PNG; None if the table has nothing that could be drawn."""
    found = panels(table)
    if not found:
        return None
    from matplotlib.figure import Figure

    across = min(3, len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(1 + 5 * across, 0.6 + 3.6 * down), layout="constrained")
    figure.suptitle("\n".join(textwrap.wrap(_plain(line(title, 3 * LABEL)), LABEL * across)))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, panel in zip(grid, found, strict=False):
        (_map if len(panel.axes) == 2 else _curves)(figure, axes, panel)
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    out = io.BytesIO()
    figure.savefig(out, dpi=110, format="png", metadata={"Software": None})
    return out.getvalue()


def _curves(figure: Any, axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    for marker, (name, places) in zip("os^Dvx" * MOST, panel.series.items(), strict=False):
        at = sorted(places)
        marked = marker if len(at) <= LONG else None
        axes.plot([x for (x,) in at], [places[x] for x in at], marker=marked, label=_plain(name))
    axes.set(xlabel=panel.axes[0].name, ylabel=_plain(panel.unit or "value"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.legend()


def _map(figure: Any, axes: Any, panel: Panel) -> None:
    """Down the first index, across the second; grey where there is no value. Values of both signs are centred on white."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    ((name, places),) = panel.series.items()
    down, across = (1 + max(place[i] for place in places) for i in (0, 1))
    shown = np.full((down, across), np.nan)
    for place, value in places.items():
        shown[place] = value
    largest = float(np.nanmax(np.abs(shown)))
    signed = bool(np.nanmin(shown) < 0 < np.nanmax(shown))
    limits = {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    axes.set_facecolor("lightgrey")
    image = axes.imshow(shown, aspect="auto", interpolation="nearest", **limits)
    axes.set(title=_plain(name), ylabel=panel.axes[0].name, xlabel=panel.axes[1].name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label=_plain(panel.unit))


def _plain(text: str) -> str:
    """A text in which no sign begins a formula, in letters that the font has."""
    return "".join(sign if sign.isprintable() and sign < "\u0250" else "?" for sign in text[: 3 * LABEL]).replace(
        "$", r"\$"
    )
