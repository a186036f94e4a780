"""`heed status`: what records, locks and plans say about a folder that others are writing to."""

import json
import subprocess
import sys
import time

import pytest

from harness.cli import main
from harness.identity.run_id import run_id
from harness.plan import planned
from harness.records.store import CellStore
from harness.records.stored import PIECE
from harness.report.status import read_status
from tests.models.small import save

HOLD = """
import sys
from pathlib import Path
from harness.records.store import CellStore
with CellStore(Path(sys.argv[1]), sys.argv[2], {"labels": LABELS, "identity": {"x": 4}}, shard=SHARD) as store:
    store.append([{"id": "a"}, {"id": "b"}])
    print("ready", flush=True)
    sys.stdin.read()
"""


IDS = [run_id({"x": i}) for i in range(5)]


def config(i):
    return {"labels": {"model": "m", "method": f"p{i}", "task": "t"}, "identity": {"x": i}}


def rows(*ids):
    return [{"id": i} for i in ids]


@pytest.fixture
def root(tmp_path):
    """A folder with a finished, a failed, a refused, a stopped and a pending cell."""
    cells = [[IDS[i], "m", f"p{i}", "t", 4] for i in range(5)]
    folder = tmp_path / "results"
    (folder / "plans").mkdir(parents=True)
    plan = {
        "sweep": "sweep-1",
        "command": ["run", "-m"],
        "started": "2026-01-01T00:00:00",
        "columns": [],
        "cells": cells,
    }
    (folder / "plans" / "sweep-1.json").write_text(json.dumps(plan))
    with CellStore(folder, IDS[0], config(0)) as store:
        store.append(rows("a", "b", "c", "d"))
        store.finish({"n": 4})
    with CellStore(folder, IDS[1], config(1)) as store:
        store.append(rows("a"))
        store.fail("UserError", "too long\nsecond line")
    with CellStore(folder, IDS[2], config(2)) as store:
        store.fail("Unsupported", "no such cache")
    with CellStore(folder, IDS[3], config(3)) as store:
        store.append(rows("a", "b", "c"))
    return folder


def states(root):
    return {c.method: c for sweep in read_status(root) for c in sweep.cells}


def test_every_state_is_told_from_the_records(root):
    found = states(root)
    assert [found[f"p{i}"].state for i in range(5)] == ["finished", "failed", "refused", "stopped", "pending"]
    assert found["p1"].reason == "too long" and found["p2"].reason == "no such cache"
    assert (found["p3"].samples, found["p3"].wanted, found["p3"].about) == (3, 4, False)
    assert found["p4"].active is None and time.time() - found["p3"].active < 60


@pytest.mark.parametrize("shard", [None, (0, 2)])
def test_a_cell_at_work_is_running_and_is_not_disturbed(root, shard):
    code = HOLD.replace("LABELS", repr(config(4)["labels"])).replace("SHARD", repr(shard))
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(root), IDS[4]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "ready\n"
    for _ in range(50):
        cell = states(root)["p4"]
        assert (cell.state, cell.samples, cell.wanted) == ("running", 2, 4)
    owner.stdin.close()
    assert owner.wait(30) == 0
    assert states(root)["p4"].state == "stopped"


def test_a_running_cell_that_failed_before_is_running(root):
    with CellStore(root, IDS[1], config(1)) as store:
        store.append(rows("b"))
        assert states(root)["p1"].state == "running"
    assert states(root)["p1"].state == "failed"


def test_cells_without_a_plan_are_told_too(root):
    (root / "plans" / "sweep-1.json").unlink()
    (sweep,) = read_status(root)
    assert sweep.plan is None and sweep.counts == {"finished": 1, "failed": 1, "refused": 1, "stopped": 1}
    assert sorted(c.label for c in sweep.cells) == [f"m / p{i} / t" for i in range(4)]


def test_many_samples_are_estimated_from_their_beginning(root):
    with (root / "runs" / IDS[3] / "samples.jsonl").open("ab") as file:
        line = json.dumps({"id": "x" * 100}).encode() + b"\n"
        file.write(line * (3 * PIECE // len(line)))
    cell = states(root)["p3"]
    wanted = 3 * PIECE / len(line)
    assert cell.about and abs(cell.samples - wanted) < 0.02 * wanted


def test_the_page_sums_up_and_gives_reasons(root, capsys):
    assert main(["status", f"results={root}"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 cells: 1 finished, 1 failed, 1 refused, 1 stopped, 1 pending")
    assert "failed m / p1 / t: too long" in said and "second line" not in said and "3 of 4" in said
    assert main(["status", "--results", str(root)]) == 0
    assert capsys.readouterr().out == said


def test_a_large_plan_is_summed_up(tmp_path, capsys):
    (tmp_path / "plans").mkdir()
    cells = [[f"c{i}", f"m{i % 3}", f"p{i}", "t", 4] for i in range(10_000)]
    plan = {"sweep": "sweep-1", "command": [], "started": "", "columns": [], "cells": cells}
    (tmp_path / "plans" / "sweep-1.json").write_text(json.dumps(plan))
    assert main(["status", f"results={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "10000 cells: 10000 pending" in said and len(said.splitlines()) < 20 and "m2 / t" in said


def test_a_folder_that_holds_nothing_and_a_wrong_word_are_mistakes(tmp_path, capsys):
    assert main(["status", f"results={tmp_path}"]) == 2 and "holds no runs" in capsys.readouterr().err
    assert main(["status", "method=power"]) == 2 and "takes only results=DIR" in capsys.readouterr().err


def test_a_plan_is_written_and_read_again(tmp_path):
    from harness.config.compose import compose
    from harness.plan.cells import cells

    folder = save(tmp_path / "tiny", max_position_embeddings=4096)
    plan = cells(compose([f"model={folder}", "method=[power]", "task.passkey.lengths=[512]", "task.passkey.trials=3"]))
    planned.write(tmp_path, "sweep-x", ["run", "method=[power]"], plan, limit=7)
    (found,) = planned.read_plans(tmp_path)
    assert (found.name, found.command) == ("sweep-x", ("run", "method=[power]"))
    assert [(c.run_id, c.method, c.n) for c in found.cells] == [(c.run_id, c.method_label, 7) for c in plan]
    (tmp_path / "plans" / "torn.json").write_text('{"sweep": "x", "ce')
    assert [p.name for p in planned.read_plans(tmp_path)] == ["sweep-x"]
