"""`heed list`: methods, probes, tasks and models with their facts, read from the classes themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from harness.config import plugins
from harness.config.build import target_class
from harness.errors import UserError
from harness.terminal.printing import Terminal
from harness.terminal.visible import visible


def show(what: str | None) -> int:
    """Print one or all of the tables. A part of a plug-in that cannot be imported is told and left out."""
    console = Terminal()
    tables = {"methods": _methods, "probes": _probes, "tasks": _tasks, "models": _models}
    for name in [what] if what else list(tables):
        console.print(tables[name]())
    return 0


def entries(group: str) -> dict[str, dict[str, Any]]:
    """label -> raw option (interpolations unresolved) for every option file of a group."""
    nodes = (item for file in plugins.files(group).values() for item in plugins.read(file).items())
    return {key: node for key, node in nodes if isinstance(node, dict) and "_target_" in node}


def _classes(group: str) -> Iterator[tuple[str, Any]]:
    """Label and class of every option."""
    for name, node in entries(group).items():
        try:
            yield name, target_class(node, f"{group}.{name}")
        except UserError as error:
            print(f"heed: {visible(str(error))}", file=sys.stderr)


def _table(title: str, group: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    table.caption = _foreign(group) or None
    return table


def _foreign(group: str) -> str:
    """Which options came with which plug-in."""
    named = [f"{name} ({plugin})" for plugin in plugins.found() for name in plugin.options(group)]
    return f"Of plug-ins: {', '.join(named)}." if named else ""


def _methods() -> Table:
    table = _table("methods", "method", "name", "what", "paper", "budget", "phases", "needs")
    for name, cls in _classes("method"):
        table.add_row(
            name,
            cls.title,
            cls.paper,
            cls.budget_unit or "-",
            ", ".join(sorted(cls.phases)),
            ", ".join(sorted(cls.needs)) or "-",
        )
    return table


def _probes() -> Table:
    table = _table("probes", "probe", "name", "what", "paper", "looks for", "needs", "columns")
    for name, cls in _classes("probe"):
        columns = ", ".join(column.name for column in cls.columns)
        table.add_row(name, cls.title, cls.paper, cls.wants, ", ".join(sorted(cls.needs)) or "-", columns)
    return table


def _tasks() -> Table:
    table = _table("tasks", "task", "name", "what", "paper", "licence of the data", "metric", "broken down by")
    for name, cls in _classes("task"):
        table.add_row(name, cls.title, cls.paper, cls.licence, cls.metrics[0].name, ", ".join(cls.by) or "-")
    return table


def _models() -> Table:
    from harness.models import packaged, shipped

    table = _table("models", "model", "name", "source", "dtype", "attention backend")
    for name, node in entries("model").items():
        path = str(node.get("path", "-"))
        source = f"package {path.removeprefix(shipped.PREFIX)}" if shipped.path_of(name) else f"hub {path}"
        if path in packaged.MEMBERS:
            source = f"package {packaged.MEMBERS[path].package}"
        table.add_row(name, source, str(node.get("dtype", "-")), str(node.get("backend", "-")))
    table.caption = f"model= also takes a folder written by save_pretrained, or any hub id. {_foreign('model')}".strip()
    return table
