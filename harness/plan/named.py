"""A file with what a method learned before, named by the user (`method.<name>.artifact=FILE`) in place of learning it.

It is the `learned.safetensors` of a lesson, or what earlier versions wrote to `results/artifacts/`. In both the header says
what it was learned about, so it is checked against the model and the method that it is used with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.disk.content import file_digest
from harness.disk.reading import is_file, user_path
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.method import Method


def named_files(method: Method) -> dict[str, str]:
    """path -> digest of the file that the user named, so that the run id holds its content and not its place."""
    path = method.artifact
    if not path:
        return {}
    file = user_path(path)
    if not is_file(file):
        raise UserError(
            f"method.{method.name}.artifact {path} is not a file; make one with `heed calibrate`, or leave the key out: "
            "then it is made when it is needed."
        )
    return {str(Path(path)): f"sha256:{file_digest(file)}"}


def read_named(method: Method, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the file that the method names. `wanted`: the identity of the lesson that it stands for. `UserError` if
    it cannot be read, or holds what was learned about another model, by another method or with other settings.
    """
    from safetensors import SafetensorError, safe_open

    path, where = user_path(method.artifact or ""), f"method.{method.name}.artifact {method.artifact}"
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = _facts((file.metadata() or {}).get("identity", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise UserError(
            f"{where} cannot be read ({error}); make it anew with `heed calibrate`, or leave the key out: then it is made when it "
            "is needed."
        ) from error
    if facts.get("model") != wanted["model"]:
        raise UserError(
            f"{where} was calibrated on another model (or dtype, or backend); leave the key out, or calibrate this model: "
            "`heed calibrate`."
        )
    found = facts.get("method")
    kept: dict[str, Any] = found if isinstance(found, dict) else {}
    differs = [key for key in ("target", "params") if kept.get(key) != wanted["method"][key]]
    if differs:  # another version of its source is no reason: the file itself is in the run id
        raise UserError(
            f"{where} was calibrated for another method, or with other settings of it ({_brief(kept)}; asked for: "
            f"{_brief(wanted['method'])}). Leave the key out, or calibrate this one: `heed calibrate`."
        )
    return tensors


def _facts(text: str) -> dict[str, Any]:
    """The identity in a file's header; empty if there is none."""
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _brief(kept: Mapping[str, Any]) -> str:
    """Class and settings in one line."""
    params = kept.get("params")
    shown = ", ".join(f"{k}={v}" for k, v in params.items()) if isinstance(params, Mapping) else ""
    return f"{str(kept.get('target') or 'nothing').rpartition('.')[2]} {shown}".strip()[:200]
