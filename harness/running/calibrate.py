"""What a calibrated method learned offline (a head list, curves per layer): computed once per model, saved, reused.

An artifact is a safetensors file under `<results>/artifacts/`, named by what it depends on: the model, the method with
its parameters and source, and the task that it was calibrated on. The same facts stand in its header, so a file that is
named by hand (`method.<name>.artifact=FILE`) is checked against the method and the model that it is used with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.call import Request
from harness.contracts.example import Example
from harness.contracts.method import Method
from harness.contracts.task import Task
from harness.disk.content import file_digest
from harness.disk.reading import is_file, user_path
from harness.disk.whole import disk_error, write_bytes
from harness.errors import UserError
from harness.identity.run_id import canonical, libraries, sha256

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.view import View

# What of a model an artifact belongs to: what it computes with, and how it is asked.
MODEL = ("weights", "config", "tokenizer", "revision", "dtype", "backend", "template", "template_date")


def task_of(method: Method) -> Task | None:
    """The task that the method is calibrated on, or None."""
    node = method.calibration()
    if node is None:
        return None
    from harness.config.build import build

    return build(node, f"method.{method.name}.calibrate_on", kind="task")


def identity_of(
    model: Mapping[str, Any], method: Method, facts: Mapping[str, Any], task: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What an artifact depends on, from the identities of a cell (`facts` is the method's): not on parameters that only
    matter once it is there, such as strengths.
    """
    learned = {k: facts["params"][k] for k in method.learns_from}
    own = {"target": facts["target"], "params": learned, "source": facts["source"]}
    return {"model": {k: model.get(k) for k in MODEL}, "method": own, "task": task, "libraries": libraries()}


def given_files(method: Method) -> dict[str, str]:
    """path -> digest of the artifact that a user named, so that the run id holds its content and not its place."""
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


def place(method: Method, identity: Mapping[str, Any], root: Path) -> Path:
    """Where the artifact lies: the file that the user named, or one under `root`."""
    if given := method.artifact:
        return user_path(given)
    return root / "artifacts" / f"{method.name}-{sha256(canonical(identity))[:16]}.safetensors"


def artifact(method: Method, identity: Mapping[str, Any], view: View, root: Path) -> dict[str, Tensor]:
    """The tensors that the method learned on this model: from its file, or computed now and saved."""
    path = place(method, identity, root)
    if method.artifact or path.exists():
        return _read(path, method, identity)
    task = task_of(method)
    assert task is not None
    # on the CPU, as they are when they are read: the first run and the later ones are served alike
    tensors = {key: value.detach().cpu().contiguous() for key, value in method.calibrate(_requests(task, view)).items()}
    _write(path, tensors, identity)
    return tensors


def _requests(task: Task, view: View) -> Iterator[tuple[Example, Request]]:
    """One request for each example, with nothing attached."""
    from harness.asking.generate import draft_of
    from harness.attention.attach import attach
    from harness.attention.request import LiveRequest
    from harness.attention.runtime import Idle
    from harness.models.inputs import collate, sample_of

    for example in task.examples(view):
        if isinstance(example, Example):
            draft = draft_of(task, example)
            yield example, LiveRequest(view, collate(view, [sample_of(view, draft)]), Idle(), attach)


def _read(path: Path, method: Method, identity: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = _facts((file.metadata() or {}).get("identity", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise UserError(
            f"method.{method.name}.artifact {path} cannot be read ({error}); make it anew with `heed calibrate`, or leave "
            "the key out: then it is made when it is needed."
        ) from error
    if facts.get("model") != identity["model"]:
        raise UserError(
            f"method.{method.name}.artifact {path} was calibrated on another model (or dtype, or backend); leave the key "
            "out, or calibrate this model: `heed calibrate`."
        )
    method_facts = facts.get("method")
    kept: dict[str, Any] = method_facts if isinstance(method_facts, dict) else {}
    differs = [key for key in ("target", "params") if kept.get(key) != identity["method"][key]]
    if differs:  # another version of its source is no reason: the file itself is in the run id
        raise UserError(
            f"method.{method.name}.artifact {path} was calibrated for another method, or with other settings of it "
            f"({_brief(kept)}; asked for: {_brief(identity['method'])}). Leave the key out, or calibrate this one: `heed calibrate`."
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


def _write(path: Path, tensors: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    write_bytes(path, save(dict(tensors), metadata={"identity": canonical(identity)}))
