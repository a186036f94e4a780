"""Parts of a configuration, built: the class that `_target_` names, checked, with the other keys as its parameters. No torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from harness.config import plugins
from harness.contracts.options import check_types
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig


def build(node: Mapping[str, Any], where: str, kind: str = "") -> Any:
    """Instantiate `node["_target_"]` with the other keys; a wrong key or class is the user's error. `kind`: of `target_class`."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where} is no option of this group: it has no _target_ that names a class.")
    values = {k: v for k, v in node.items() if k != "_target_"}
    cls = target_class(node, where, kind)
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            raise UserError(f"Unknown key '{where}.{key}': {nearest(str(key), known)}")
    check_types(cls, values, where)
    try:
        part = cls(**values)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error
    part.validate()
    return part


def target_class(node: Mapping[str, Any], where: str, kind: str = "") -> Any:
    """The class that `_target_` names. `kind` (method, task or model; empty: what `where` begins with, if it is one): only
    such a class may be named. Nothing is called here, and nothing of Python itself is imported.
    """
    target = str(node.get("_target_", ""))
    module, _, name = target.rpartition(".")
    kind = kind or where.partition(".")[0]
    what = f"{where}._target_ = '{target}' is no {kind if kind in KINDS else 'class of this kind'}"
    told = KINDS.get(kind, "name a class of the project or of a plug-in.")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise UserError(f"{what}: {told}")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise _not_imported(error, module, f"{where}._target_ = '{target}'") from error
    if not isinstance(cls, type) or (kind in KINDS and not _is_a(kind, cls)):
        raise UserError(f"{what}: {told}")
    return cls


def _not_imported(error: Exception, module: str, what: str) -> Exception:
    """A wrong name is the user's error, and so is whatever code of somebody else raises; other code keeps its traceback."""
    if plugin := plugins.owner(module):
        return UserError(
            f"{what} of the plug-in {plugin} cannot be imported: {type(error).__name__}: {error}. Everything else works "
            f"without it; ask its author, or remove it: pip uninstall {plugin.name}."
        )
    if isinstance(error, ImportError | AttributeError | ValueError):
        return UserError(f"{what} cannot be imported: {error}.")
    return error


KINDS = {
    "method": "only a class that derives from harness.contracts.method.Method can be named here.",
    "probe": "only a class that derives from harness.contracts.probe.Probe can be named here.",
    "task": "only a class that derives from harness.contracts.task.Task can be named here.",
    "model": "only a spec of a model, such as harness.models.load.ModelSpec, can be named here.",
}


def _is_a(kind: str, cls: type) -> bool:
    from harness.contracts.method import Method
    from harness.contracts.probe import Probe
    from harness.contracts.task import Task

    if kind == "model":
        return all(hasattr(cls, name) for name in ("identity", "validate", "load")) and is_dataclass(cls)
    return issubclass(cls, {"method": Method, "probe": Probe, "task": Task}[kind])


def group(cfg: DictConfig, name: str) -> dict[str, Any]:
    """label -> instance for one of the groups of the configuration."""
    from omegaconf import OmegaConf

    nodes: Any = OmegaConf.to_container(cfg[name], resolve=True)
    return {str(label): build(node, f"{name}.{label}") for label, node in nodes.items()}
