"""`heed list`: methods, tasks and models with their facts, read from the classes themselves."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from rich.table import Table

from harness.config.build import target_class
from harness.config.compose import CONFIGS
from harness.terminal.printing import Terminal


def show(what: str | None) -> int:
    """Print one or all of the three tables."""
    console = Terminal()
    tables = {"methods": _methods, "tasks": _tasks, "models": _models}
    for name in [what] if what else list(tables):
        console.print(tables[name]())
    return 0


def entries(group: str) -> dict[str, dict[str, Any]]:
    """label -> raw option (interpolations unresolved) for every option file of a group."""
    out: dict[str, dict[str, Any]] = {}
    for file in sorted((CONFIGS / group).glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(node, dict)
        out |= {str(k): v for k, v in node.items() if isinstance(v, dict) and "_target_" in v}
    return out


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    return table


def _methods() -> Table:
    table = _table("methods", "name", "what", "paper", "budget", "phases", "needs")
    for name, node in entries("method").items():
        cls = target_class(node, f"method.{name}")
        table.add_row(
            name,
            cls.title,
            cls.paper,
            cls.budget_unit or "-",
            ", ".join(sorted(cls.phases)),
            ", ".join(sorted(cls.needs)) or "-",
        )
    return table


def _tasks() -> Table:
    table = _table("tasks", "name", "what", "paper", "licence of the data", "metric", "broken down by")
    for name, node in entries("task").items():
        cls = target_class(node, f"task.{name}")
        table.add_row(name, cls.title, cls.paper, cls.licence, cls.metrics[0].name, ", ".join(cls.by) or "-")
    return table


def _models() -> Table:
    import zoo
    from harness.models import packaged

    table = _table("models", "name", "source", "dtype", "attention backend")
    for name, node in entries("model").items():
        source = "zoo (in the repository)" if node["path"] in zoo.MEMBERS else f"hub {node['path']}"
        if node["path"] in packaged.MEMBERS:
            source = f"package {packaged.MEMBERS[node['path']].package}"
        table.add_row(name, source, str(node["dtype"]), str(node["backend"]))
    table.caption = "model= also takes a folder written by save_pretrained, or any hub id."
    return table
