"""The process that talks to Weights & Biases: `python -m harness.tracking.worker FOLDER`.

It reads FOLDER/order.json and appends one line `[run id, "ok" or the reason]` to FOLDER/answers.jsonl per cell.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Write all cells of the order; one that fails does not stop the next."""
    order = json.loads((folder / "order.json").read_text())
    with open(folder / "answers.jsonl", "a") as answers:
        for cell in order["cells"]:
            try:
                write(importlib.import_module("wandb"), cell, order)
                answer = "ok"
            except ModuleNotFoundError as err:
                answer = f"{err.name} is not installed"
            except Exception as err:  # whatever the tracker raises is an answer
                answer = f"wandb: {' '.join(str(err).split())[:300] or type(err).__name__}"
            answers.write(json.dumps([cell["id"], answer]) + "\n")
            answers.flush()


def write(wandb: Any, cell: dict[str, Any], order: dict[str, Any]) -> None:
    """One run: config at the start, table and pictures as history, numbers as summary."""
    run = wandb.init(
        project=order["project"], group=cell["group"], id=cell["id"], name=cell["name"], resume="allow",
        mode=order["mode"], dir=order["dir"], config=cell["config"], job_type="cell", settings=settings(wandb, order),
    )  # fmt: skip
    media: dict[str, Any] = {}
    if cell["rows"]:
        media["breakdown"] = wandb.Table(columns=cell["columns"], data=cell["rows"], allow_mixed_types=True)
    for name, table in cell["tables"].items():
        media[f"tables/{name}"] = wandb.Table(columns=table["columns"], data=table["rows"], allow_mixed_types=True)
    for image in cell["images"]:
        media[f"figures/{Path(image).stem}"] = wandb.Image(image)
    numbers = {key: value for key, value in cell["summary"].items() if not isinstance(value, bool)}
    run.log(numbers | media)
    run.summary.update(cell["summary"])
    run.finish()


def settings(wandb: Any, order: dict[str, Any]) -> Any:
    """Nothing is sent but the records: no code, console, machine data or package list. Unknown options are left out."""
    wanted = {
        "console": "off", "silent": True, "disable_git": True, "disable_code": True, "disable_job_creation": True,
        "save_code": False, "x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True,
        "x_save_requirements": False, "init_timeout": float(order["timeout"]),
    }  # fmt: skip
    known = getattr(wandb.Settings, "model_fields", wanted)
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in known})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
