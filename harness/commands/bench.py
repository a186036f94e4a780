"""`heed bench`: configuration -> models -> points -> record -> table, curves and CSV. The measuring is described in
`harness/efficiency/bench.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from harness.config.build import group
from harness.config.compose import BASELINE, compose, expand_random
from harness.efficiency.bench_settings import BenchSettings
from harness.errors import UserError
from harness.terminal.printing import Terminal

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.contracts.method import Method


def show(overrides: list[str]) -> int:
    """Bench every model of the overrides; 2 if no method but dense could be measured on any of them."""
    cfg = compose(expand_random(overrides))
    if not cfg.baseline:
        raise UserError("heed bench compares with dense, so baseline=false leaves nothing to compare with; remove it.")
    specs, methods = group(cfg, "model"), group(cfg, "method")
    _check_random(cfg, specs)
    node: Any = OmegaConf.to_container(cfg.bench, resolve=True)
    settings = BenchSettings.of(node)
    methods = {BASELINE: methods[BASELINE], **methods}
    console = Terminal()
    codes = [_bench(cfg, spec, methods, settings, console) for spec in specs.values()]
    return max(codes)


def _check_random(cfg: DictConfig, specs: Mapping[str, Any]) -> None:
    """Options of random weights have nothing to act on without any."""
    if all(hasattr(spec, "shape") for spec in specs.values()):
        return
    for key, default in (("layers", None), ("dtype", "auto"), ("device", "auto")):
        if cfg.bench[key] != default:
            raise UserError(
                f"bench.{key}={cfg.bench[key]} is an option of model.random=SHAPE; a checkpoint is taken as it is"
                + (". Leave it out." if key == "layers" else f": set model.NAME.{key}.")
            )


def _bench(cfg: DictConfig, spec: Any, methods: Mapping[str, Method], settings: BenchSettings, console: Console) -> int:
    from harness.commands.bench_progress import Bar
    from harness.disk.whole import read_json
    from harness.efficiency import bench, hardware
    from harness.efficiency.machine import peaks
    from harness.records.bench import BenchRecord
    from harness.report import bench_files, bench_table

    with console.status(f"loading {spec.name}"):
        subject = _subject(cfg, spec, methods, settings)
    _refuse_all(subject.refusals(), methods)
    device, dtype = subject.devices[0], str(subject.view.dtype).removeprefix("torch.")
    machine = hardware.describe(device)
    about = _about(cfg, spec, methods, settings, machine["name"])
    shown = {"model": spec.name, "dtype": dtype, "methods": {k: _parameters(m) for k, m in methods.items()}}
    record = BenchRecord(Path(cfg.results), about, shown)
    with console.status("measuring what this machine can do"):
        first = peaks(device, subject.view.dtype)
    if record.begin(asdict(settings), first, machine):
        console.print(Text(f"going on with an interrupted run: {record.path}"), soft_wrap=True)
    with Bar(console, settings, len(methods)) as bar:
        keep = lambda point: record.keep(point, peaks(device, subject.view.dtype))  # noqa: E731
        bench.measure(subject, methods, settings, record.has, keep, bar.tick)
    record.finish()
    stored = read_json(record.path)
    bench_table.render(stored, console)
    files = [record.path, *bench_files.write(stored, record.path)]
    console.print(Text(f"{'written' if len(record.content['runs']) == 1 else 'appended'}: {', '.join(map(str, files))}"),
                  soft_wrap=True)  # fmt: skip
    return 0 if any(r["status"] in ("done", "simulated") for p in record.run["points"] for r in p["rows"]) else 2


def _subject(cfg: DictConfig, spec: Any, methods: Mapping[str, Method], settings: BenchSettings) -> Any:
    """The model, or for the attention function alone what stands for it without weights, where that is known."""
    import torch

    from harness.efficiency.subjects import AttentionAlone, WholeModel

    common = (methods, cfg.lowering, settings.new_tokens, cfg.seed)
    if settings.kind == "model":
        return WholeModel(spec.load(), *common)
    view = spec.skeleton() if hasattr(spec, "skeleton") else spec.load()
    return AttentionAlone(view, *common, torch.device(spec.torch_device()))


def _refuse_all(refused: Mapping[str, str], methods: Mapping[str, Method]) -> None:
    """Nothing but the baseline is left: say why, and measure nothing."""
    others = [label for label in methods if label != BASELINE]
    if others and all(label in refused for label in others):
        raise UserError("No method can be measured here. " + " ".join(f"{k}: {refused[k]}" for k in others))


def _about(
    cfg: DictConfig, spec: Any, methods: Mapping[str, Method], settings: BenchSettings, machine: str
) -> dict[str, Any]:
    """What the record's id is made of: repeats and budget make a number surer, not another one."""
    from harness.plan.identities import method_identity

    return {
        "model": spec.identity(),
        "methods": {k: method_identity(m) for k, m in methods.items()},
        "kind": settings.kind, "lengths": list(settings.lengths), "batches": list(settings.batches),
        "new_tokens": settings.new_tokens, "lowering": cfg.lowering, "seed": cfg.seed, "machine": machine,
    }  # fmt: skip


def _parameters(method: Method) -> str:
    """`block_size=16, window_blocks=3`: what was really measured, since presets change it."""
    found = {f.name: getattr(method, f.name) for f in fields(method)}
    return ", ".join(f"{k}={list(v) if isinstance(v, tuple) else v}" for k, v in found.items() if v not in (None, ()))
