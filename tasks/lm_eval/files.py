"""The YAML and data files of a user's own lm-eval tasks, looked at before the library acts on them, and again when it fails.

The library skips a file that it cannot read, so a broken task is one that "does not exist"; it imports the Python
functions that a file names (`!function module.name`), and looks for metrics that it does not have on a hub, as code. What
stands in its own package is trusted with it. A folder of `include` is data, until `unsafe_code=true` says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.disk.reading import is_file, read_entries, read_text, regular
from harness.errors import UserError

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
JSON = (".json", ".jsonl")
ALLOW = "If you trust it, say so with task.lm_eval.unsafe_code=true."


def check_folders(folders: Sequence[str]) -> None:
    """No pipe or device among the YAML files: the library would wait for it without end."""
    for path in (p for folder in folders for p in sorted(Path(folder).rglob("*.yaml"))):
        if path.exists() and not path.is_dir():
            regular(path, "lm-eval task file")


def problems(folders: Sequence[str]) -> list[str]:
    """Why the library passes over files of these folders: one sentence each. Files without a task are templates of others."""
    from lm_eval.tasks._index import TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    found = []
    for path in (p for folder in folders for p in TaskIndex._iter_yaml_files(Path(folder))):
        try:
            load_yaml(path, resolve_func=False)
        except Exception as error:  # whatever it is, the library passes over the file
            found.append(f"{path}: {' '.join(str(error).split()) or type(error).__name__}")
    return found


# -- code ------------------------------------------------------------------------------------------------------------


def refuse_code(index: Mapping[str, Any], names: Sequence[str], package: Path) -> None:
    """`UserError` if the files of these tasks outside the library's `package` would run code of their own."""
    for name, entry in _entries(index, names):
        if entry.yaml_path is None:
            continue
        files = list(_included(Path(entry.yaml_path).resolve(), package))
        nodes = [(path, node) for path in files for node in _nodes(path)]
        for path, node in nodes:
            if node.tag.startswith("!") or "python" in node.tag:
                raise _unsafe(name, path, node, f"runs Python code ({node.tag} {node.value if _scalar(node) else ''})")
        _refuse_metrics(name, nodes)


def _refuse_metrics(name: str, nodes: Sequence[tuple[Path, Any]]) -> None:
    import lm_eval.api.metrics  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import metric_registry

    for path, node in nodes:
        if not isinstance(node, yaml.MappingNode):
            continue
        keys = {key.value: value for key, value in node.value if _scalar(key) and _scalar(value)}
        metric = keys.get("metric")
        asked = "hf_evaluate" in keys and keys["hf_evaluate"].value.lower() == "true"
        if metric is not None and (asked or metric.value not in metric_registry):
            why = f"names the metric '{metric.value}', which is none of the library's own, so it would be fetched and run as code"
            raise _unsafe(name, path, metric, why)


def _unsafe(name: str, path: Path, node: Any, why: str) -> UserError:
    line = node.start_mark.line + 1
    return UserError(f"The lm-eval task '{name}' {why}: {path}, line {line}. {ALLOW}")


def _scalar(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _entries(index: Mapping[str, Any], names: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """(name, entry) of tasks, of groups and tags, and of all that belongs to them."""
    left, seen = list(names), set[str]()
    while left:
        name = left.pop()
        if isinstance(name, dict):  # a member with settings of its own, or a group inside a group
            left += name["task"] if isinstance(name.get("task"), list) else []
            name = name.get("group") or name.get("task")
        entry = index.get(name) if isinstance(name, str) else None
        if entry is None or name in seen:
            continue
        seen.add(name)
        members = (entry.cfg or {}).get("task")
        left += [*entry.tags] if entry.kind.name == "TAG" else members if isinstance(members, list) else []
        yield name, entry


def _included(path: Path, package: Path) -> Iterator[Path]:
    """A file and those that it includes, as far as they are not the library's own."""
    left, seen = [path], set[Path]()
    while left:
        file = left.pop()
        if file in seen or file.is_relative_to(package) or not is_file(file):
            continue
        seen.add(file)
        yield file
        for node in _nodes(file):
            if isinstance(node, yaml.MappingNode):
                values = [value for key, value in node.value if _scalar(key) and key.value == "include"]
                named = [
                    v for value in values for v in (value.value if isinstance(value, yaml.SequenceNode) else [value])
                ]
                left += [(file.parent / os.path.expanduser(v.value)).resolve() for v in named if _scalar(v)]


def _nodes(path: Path) -> Iterator[Any]:
    """Every node of a YAML file; nothing is constructed, so no tag acts."""
    try:
        left = [yaml.compose(read_text(path, "lm-eval task file"), Loader=YAML)]
    except (yaml.YAMLError, RecursionError):
        return  # the library says what it makes of it
    seen = set[int]()
    while left:
        node = left.pop()
        if node is None or id(node) in seen:  # an alias stands for a node that was seen
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


# -- data ------------------------------------------------------------------------------------------------------------


def local_data(index: Mapping[str, Any], name: str) -> list[Path]:
    """The data files on this machine that a task and its members name, whether they are there or not."""
    found: list[Path] = []
    for _, entry in _entries(index, [name]):
        wanted = (entry.cfg or {}).get("dataset_kwargs")
        files = wanted.get("data_files") if isinstance(wanted, dict) else None
        if files is None or not isinstance(wanted, dict):
            continue
        several = list(files.values()) if isinstance(files, dict) else [files]
        flat = [one for value in several for one in (value if isinstance(value, list) else [value])]
        folder = str(wanted.get("data_dir") or "")
        found += [Path(folder, one) for one in flat if isinstance(one, str) and "://" not in one and "*" not in one]
    return found


def check_data(files: Sequence[Path]) -> None:
    """No pipe or device among the data files that there are."""
    for path in files:
        if os.path.exists(path):
            regular(path, "data file")


def diagnose(files: Sequence[Path]) -> None:
    """`UserError` for the first JSON file that is none, with its line; the library's own error does not name it."""
    for path in files:
        if is_file(path) and path.suffix in JSON:
            read_entries(path, "data file")
