"""`heed run -m`: commas make jobs, a launcher runs them, and the submitting process shows what came of them.

However jobs end, nothing is lost: what they finished stands in the records, the same command continues there, and it
submits only jobs that have something left to do.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console
from rich.text import Text

from harness.commands import run
from harness.errors import UserError
from harness.launch.expand import Job, Sweep, expand
from harness.launch.job_call import JobCall
from harness.launch.options import Options, launcher, split
from harness.plan import planned
from harness.plan.cells import Cell, decoding, is_done
from harness.terminal.printing import Terminal

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.running.settings import Outcome


def sweep(overrides: list[str], check: Callable[[DictConfig], None] | None = None) -> int:
    """One job for each element of the comma lists (and of `jobs=N`, `shards=N`) on `launcher=local|slurm|ray`."""
    described, options = split(overrides)
    found = expand(described, options.jobs, options.shards, options.alone)
    plan, console = found.plan, Terminal()
    cfg = found.matrices[0][0]
    if check:
        check(cfg)
    root, name = Path(cfg.results), run.sweep_id(plan)
    if cfg.dry_run:
        from harness.commands.dry_run import show_sweep

        show_sweep(found, console)
        return 0
    run._check_writable(root)
    planned.write(root, name, ["run", "-m", *overrides], plan, cfg.limit)
    done = {c.run_id for c in plan if is_done(root, c.run_id)}
    left = [job for job in found.jobs if job.left(done)]
    console.print(
        f"{name}: {len(plan)} cells in {len(found.jobs)} jobs, {len(done)} cells finished before, {len(left)} jobs to run; "
        f"records in {root / 'runs'}",
        soft_wrap=True,
    )
    call = JobCall(run.once, tuple(found.variants), name)
    ended = _launch(left, options, root / "sweeps" / name, call) if left else []
    bug = _report(left, ended, console)
    code = max(_conclude(found, root, name, console), int(bug))
    missing = sum(not is_done(root, c.run_id) for c in plan)
    if missing and code:
        console.print(
            f"{missing} of {len(plan)} cells are not finished. To continue: heed run -m {shlex.join(overrides)}",
            soft_wrap=True,
        )
    return code


def _launch(jobs: Sequence[Job], options: Options, folder: Path, call: JobCall) -> Sequence[JobReturn]:
    made = launcher(options, folder, call)
    try:
        return made.launch([list(job.overrides) for job in jobs], initial_job_idx=0)
    finally:
        with contextlib.suppress(OSError):  # jobs of this process leave nothing there
            folder.rmdir()


def _report(jobs: Sequence[Job], ended: Sequence[JobReturn], console: Console) -> bool:
    """Say what ended jobs that did not return. Whether one of them met a bug."""
    bug = False
    for job, returned in zip(jobs, ended, strict=True):
        if returned.status is JobStatus.COMPLETED:
            continue
        error = returned._return_value  # its property raises
        if not isinstance(error, UserError):
            bug = True
            traceback.print_exception(error, file=sys.stderr)
            error = f"{type(error).__name__}, see the traceback"
        console.print(Text("failed", style="bold red") + Text(f" {job.label}: {error}"), soft_wrap=True)
    return bug


def _conclude(found: Sweep, root: Path, name: str, console: Console) -> int:
    """Read what is there: compare finished cells with baselines that other jobs finished, print the table and the failures.

    Nothing is computed here: this may be a login node.
    """
    outcomes: list[Outcome] = []
    for cfg, plan in found.matrices:
        outcomes += _finish(cfg, [c for c in plan if is_done(root, c.run_id)], root, name, console)
    told = {o.cell.run_id for o in outcomes if o.reason}
    open_cells = [c for c in found.plan if not is_done(root, c.run_id)]
    outcomes += [o for c in open_cells if (o := _failure(c, root))]
    run.print_table(root, found.plan, console, told=told | {o.cell.run_id for o in outcomes if o.reason})
    cfg = found.matrices[0][0]
    if cfg.published:
        run.print_published(cfg, root, found.plan, console)
    code = run.report_failures(outcomes, console)
    waiting = {c.run_id for c in open_cells} - {o.cell.run_id for o in outcomes}
    return max(code, 2) if waiting else code


def _finish(cfg: DictConfig, plan: list[Cell], root: Path, name: str, console: Console) -> list[Outcome]:
    from harness.running.run import execute
    from harness.running.settings import RunSettings

    settings = RunSettings(
        root, cfg.preset.name, cfg.limit, efficiency="off", decoding=decoding(cfg), share=cfg.share, allow_errors=cfg.allow_errors
    )  # fmt: skip
    return execute(plan, settings, after=run._tracker(cfg, root, name, console)) if plan else []


def _failure(cell: Cell, root: Path) -> Outcome | None:
    """How an unfinished cell ended, from its records; None if it only stopped, or never began."""
    from harness.analysis.board_rows import status_of
    from harness.records.cells import read_cell
    from harness.running.settings import Outcome

    folder = root / "runs" / cell.run_id
    if not folder.is_dir():
        return None
    status, reason = status_of(read_cell(folder))
    return (
        Outcome(cell, "failed" if status == "damaged" else status, reason)
        if status in ("failed", "refused", "damaged")
        else None
    )
