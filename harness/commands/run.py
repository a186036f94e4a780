"""`heed run` and `heed sync`: configuration -> plan -> records -> table, and the records to Weights & Biases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from harness.config.compose import compose, fraction
from harness.errors import UserError
from harness.plan.cells import Cell, cells, decoding, is_done, part
from harness.terminal.printing import Terminal

SKIPS = 10  # reasons for skipped examples that are shown

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.running.run import Outcome


def once(overrides: list[str], group: str | None = None, check: Callable[[DictConfig], None] | None = None) -> int:
    """One matrix in this process. `check`: of the verb that wants it, on the composed configuration."""
    cfg = compose(overrides)
    if check:
        check(cfg)
    plan = cells(cfg)
    if chosen := fraction(cfg, "part"):
        plan = part(plan, *chosen, limit=cfg.limit)
    console = Terminal()
    if cfg.dry_run:
        from harness.commands.dry_run import show

        show(plan, Path(cfg.results), cfg.limit, console)
        return 0
    return _execute(cfg, plan, console, group)


def _execute(cfg: DictConfig, plan: list[Cell], console: Console, group: str | None) -> int:
    from harness.commands.progress import Bar
    from harness.running.run import RunSettings, execute

    root = Path(cfg.results)
    settings = RunSettings(
        root, cfg.preset.name, cfg.limit, cfg.efficiency, cfg.batch_tokens, cfg.lowering, decoding(cfg), cfg.share,
        fraction(cfg, "shard"), cfg.allow_errors,
    )  # fmt: skip
    _check_writable(root)
    track = _tracker(cfg, root, group or sweep_id(plan), console)
    todo = sum(not is_done(root, c.run_id) for c in plan)
    console.print(f"{len(plan)} cells, {len(plan) - todo} finished before, {todo} to run; records in {root / 'runs'}")
    bar = Bar(console, len(plan))
    outcomes: list[Outcome] = []
    try:
        with bar:
            outcomes = execute(plan, settings, bar, after=track)
    except KeyboardInterrupt:
        done = sum(is_done(root, c.run_id) for c in plan)
        raise KeyboardInterrupt(f"{done} of {len(plan)} cells are finished") from None
    print_table(root, plan, console, told={o.cell.run_id for o in outcomes if o.reason})
    print_skipped(root, plan, console)
    if cfg.published:
        print_published(cfg, root, plan, console)
    return report_failures(outcomes, console, in_sweep=group is not None)


def _check_writable(root: Path) -> None:
    """Say it before the first cell, not once for every cell."""
    runs = root / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs):
            pass
    except OSError as error:
        raise UserError(
            f"results={root} cannot be written to ({error.strerror}). Choose another folder: results=DIR."
        ) from error


def print_table(root: Path, plan: Sequence[Cell], console: Console, told: Collection[str] = ()) -> None:
    """The terminal table, read back from the records in plan order. `told`: run ids whose reasons follow below it."""
    from harness.analysis.probes import split
    from harness.records.cells import read_cell
    from harness.report import tables, terminal

    results, probes = split([read_cell(root / "runs" / c.run_id) for c in plan])
    terminal.render(results, console, told)
    tables.render(probes, console, told)


def print_skipped(root: Path, plan: Sequence[Cell], console: Console) -> None:
    """Which examples a task could not ask, and why: they are no part of the numbers above."""
    from harness.records.cells import read_cell

    found: dict[tuple[str, str, int], list[str]] = {}
    for cell in plan:
        record = read_cell(root / "runs" / cell.run_id)
        for reason, n in (record.metrics.get("skipped") or {}).items() if record.done else ():
            found.setdefault((cell.task_label, str(reason), int(n)), []).append(cell.method_label)
    for (task, reason, n), methods in list(found.items())[:SKIPS]:
        console.print(f"skipped {n} of {task} ({', '.join(methods)}): {reason}.", soft_wrap=True)
    if len(found) > SKIPS:
        console.print(f"... and {len(found) - SKIPS} more reasons, in the metrics.json of their cells", soft_wrap=True)


def print_published(cfg: DictConfig, root: Path, plan: Sequence[Cell], console: Console) -> None:
    """What a paper printed for this protocol, beside what was measured."""
    from omegaconf import OmegaConf

    from harness.records.cells import read_cell
    from harness.records.published import render

    published: Any = OmegaConf.to_container(cfg.published, resolve=True)
    render(published, [read_cell(root / "runs" / c.run_id) for c in plan], console)


def report_failures(outcomes: Sequence[Outcome], console: Console, in_sweep: bool = False) -> int:
    """Say each reason once and whole, with the cells it struck.

    Exit code 2 for failures, since each carries a way to repair it (1 if one is a bug); also if nothing but the baseline
    is left because all methods were refused. A matrix in which some methods cannot serve some models is fine. Cells that
    another process has are unfinished business, except for a job of a sweep: there the end of the sweep looks at them.
    """
    struck: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.status in ("failed", "refused", "busy"):
            struck.setdefault((outcome.status, outcome.reason), []).append(outcome.cell.label)
    for (status, reason), labels in struck.items():
        # left to the terminal to wrap: a path that is cut in two cannot be copied
        console.print(Text(status, style="bold red") + Text(f" {', '.join(labels)}: {reason}"), soft_wrap=True)
    others = [o for o in outcomes if o.cell.run_id != o.cell.needs.baseline]
    if any(o.bug for o in outcomes):
        return 1
    nothing = bool(others) and all(o.status == "refused" for o in others)
    bad = {"failed"} if in_sweep else {"failed", "busy"}
    return 2 if nothing or any(status in bad for status, _ in struck) else 0


def sweep_id(plan: Sequence[Cell]) -> str:
    """A name for the group of runs on the tracker: equal plans share it."""
    from harness.identity.run_id import sha256

    return "sweep-" + sha256(" ".join(sorted(c.run_id for c in plan)))[:10]


def _tracker(cfg: DictConfig, root: Path, group: str, console: Console) -> Any:
    """A callback that writes one finished cell to the tracker, or None when tracking is off."""
    from harness.tracking.wandb import resolve_mode, track

    mode = resolve_mode(cfg.tracking.mode)
    if mode == "disabled":
        return None

    def after(cell: Cell) -> None:
        from harness.records.cells import read_cell

        status = track(
            read_cell(root / "runs" / cell.run_id),
            root,
            mode,
            cfg.tracking.project,
            cfg.tracking.group or group,
            timeout=cfg.tracking.timeout,
        )
        if not status.ok:
            console.print(f"tracking: {status.message}", style="yellow")

    return after


def sync(overrides: list[str], force: bool) -> int:
    """Replay finished cells to Weights & Biases from the records."""
    from harness.tracking.wandb import resolve_mode
    from harness.tracking.wandb import sync as replay

    cfg = compose(overrides)
    console = Terminal()
    if not (Path(cfg.results) / "runs").is_dir():
        raise UserError(f"results={cfg.results} holds no runs. Name the folder that `heed run` wrote to: results=DIR.")
    mode = resolve_mode(cfg.tracking.mode)
    if mode == "disabled":
        raise UserError(
            "You are not logged in to Weights & Biases: run `wandb login` first, or write files with tracking=offline."
        )
    report = replay(Path(cfg.results), mode=mode, project=cfg.tracking.project, group=cfg.tracking.group, force=force)
    console.print(str(report))
    return 0 if report.ok else 1
