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


def read_named(method: Method, wanted: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the file that the method names. `wanted`: the identity of the lesson that it stands for; `own`: that of
    the method. `UserError` if the file cannot be read, or holds what was learned about another model, for another method or
    with other settings.
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
    kept, asked = _settings(facts, wanted, own)
    if kept != asked:  # another version of its source is no reason: the file itself is in the run id
        raise UserError(
            f"{where} was calibrated for another method, or with other settings of it ({_brief(kept)}; asked for: "
            f"{_brief(asked)}). Leave the key out, or calibrate this one: `heed calibrate`."
        )
    return tensors


def _settings(
    facts: Mapping[str, Any], wanted: Mapping[str, Any], own: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Class and settings by which the file was made, and those that are asked for: of the probe, or, in a file of an earlier
    version, of the method, where all settings that it states must be equal.
    """
    if isinstance(probe := facts.get("probe"), dict):
        return _of(probe, {"most": facts.get("most")}), _of(wanted["probe"], {"most": wanted["most"]})
    method = facts.get("method")
    kept = _of(method if isinstance(method, dict) else {}, {})
    return kept, {"target": own["target"], "params": {key: own["params"].get(key) for key in kept["params"]}}


def _of(part: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    params = part.get("params")
    return {"target": part.get("target"), "params": {**(params if isinstance(params, Mapping) else {}), **more}}


def _facts(text: str) -> dict[str, Any]:
    """The identity in a file's header; empty if there is none."""
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _brief(kept: Mapping[str, Any]) -> str:
    """Class and settings in one line."""
    shown = ", ".join(f"{k}={v}" for k, v in kept["params"].items())
    return f"{str(kept.get('target') or 'nothing').rpartition('.')[2]} {shown}".strip()[:200]
