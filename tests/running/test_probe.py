"""`heed probe` from the command line to tables and pictures, on a tiny random Llama and on probes that misbehave."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.commands.report import write as report
from harness.config.compose import compose
from harness.contracts.probe import Probe
from harness.models.load import ModelSpec
from harness.plan.cells import cells
from harness.records import seal
from harness.records.cells import read_cells
from harness.records.learned import store
from harness.records.tables import concluded, is_probe, seen
from harness.report import tables
from harness.running.run import RunSettings, execute
from harness.terminal.printing import Terminal
from harness.tracking.payload import payload
from harness.tracking.wandb import sync
from tests.models.small import save
from tests.toy_probes import STOP, Peak

TASK = ["task=passkey", "task.passkey.lengths=[256]", "task.passkey.depths=[0,50,100]", "task.passkey.trials=1"]
OFF = ["tracking=disabled"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


def words(folder: Path, root: Path, *probes: str) -> list[str]:
    chosen = [f"+probe.{name.lower()}._target_=tests.toy_probes.{name}" for name in probes or ("Peak",)]
    return [f"model={folder}", *chosen, *TASK, *OFF, f"results={root}"]


@pytest.fixture(scope="module")
def results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe and two methods on one task."""
    root = tmp_path_factory.mktemp("results")
    assert main(["probe", *words(folder, root)]) == 0
    run = ["run", f"model={folder}", "method=[dense,sliding]", *TASK, *OFF, "efficiency=off", f"results={root}"]
    assert main(run) == 0
    return root


def cell_of(root: Path, method: str = "peak") -> Any:
    return next(c for c in read_cells(root) if c.labels["method"] == method)


# ---- what is seen and kept


def test_the_rows_are_the_weights_that_the_model_itself_gives(folder: Path, results: Path) -> None:
    view = ModelSpec(path=str(folder)).load()
    (cell,) = cells(compose(words(folder, results)))
    examples = {e.id: e for e in cell.task.examples(view)}
    view.model.set_attn_implementation("eager")
    found = seen(cell_of(results)).rows
    assert len(found) == 3 * 3 * 4 and {row[0] for row in found} == examples.keys()
    for name, example in examples.items():
        ids = torch.tensor([view.prompt_ids(example.question.prompt, example.question.answer_prefix)])
        with torch.no_grad():
            weights = view.model(ids, output_attentions=True).attentions
        for _, layer, head, weight in (row for row in found if row[0] == name):
            assert weight == pytest.approx(float(weights[layer][0, head, -1].max()), abs=1e-5)


def test_the_answers_under_a_probe_are_dense_s_own(results: Path) -> None:
    probed, dense = ({s["id"]: s["text"] for s in cell_of(results, name).samples()} for name in ("peak", "dense"))
    assert probed == dense
    evidence = json.loads((cell_of(results).path / "engaged.json").read_text())
    assert evidence["logits_moved"] == 0 and evidence["restored"] and evidence["layers_watched"] == [0, 1, 2]


def test_what_is_concluded_is_the_mean_over_the_examples_with_its_files(results: Path) -> None:
    cell, rows = cell_of(results), seen(cell_of(results)).rows
    table = concluded(cell.path)["mean"]
    assert [column.kind for column in table.columns] == ["layer", "head", "number"] and len(table.rows) == 12
    for layer, head, weight in table.rows:
        of = [row[3] for row in rows if row[1:3] == (layer, head)]
        assert weight == pytest.approx(sum(of) / 3)
    assert is_probe(cell) and cell.done and (cell.metrics["n_seen"], cell.metrics["n_rows"]) == (3, 36)
    lines = list(csv.reader((cell.path / "tables" / "rows.csv").open()))
    assert lines[0] == ["example", "layer", "head", "weight (share)"] and len(lines) == 37
    assert (cell.path / "figures" / "mean.png").read_bytes().startswith(b"\x89PNG")
    sealed = json.loads((cell.path / "DONE").read_text())["files"]
    assert {"tables/mean.json", "tables/mean.csv", "tables/rows.csv", "learned.safetensors"} <= sealed.keys()


def test_a_second_run_computes_nothing(folder: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamp = (cell_of(results).path / "samples.jsonl").stat().st_mtime_ns
    assert main(["probe", *words(folder, results)]) == 0
    assert "1 finished before, 0 to run" in capsys.readouterr().out
    assert (cell_of(results).path / "samples.jsonl").stat().st_mtime_ns == stamp


def files(root: Path) -> dict[str, bytes]:
    """Everything that two runs of a cell must agree in."""
    names = ("config.json", "samples.jsonl", "metrics.json", "learned.safetensors")
    found = [p for p in sorted(root.glob("runs/*/**/*")) if p.name in names or p.parent.name in ("tables", "figures")]
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def test_a_killed_cell_goes_on_and_ends_like_an_uninterrupted_one(folder: Path, results: Path, tmp_path: Path) -> None:
    ids = [sample["id"] for sample in cell_of(results).samples()]
    code = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "probe", *words(folder, tmp_path)]
    killed = subprocess.run(command, env={**os.environ, STOP: ids[2]}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (half,) = read_cells(tmp_path)
    assert not half.done and [sample["id"] for sample in half.samples()] == ids[:2]
    assert main(["probe", *words(folder, tmp_path)]) == 0
    mine = {name: data for name, data in files(results).items() if cell_of(results).run_id in name}
    assert files(tmp_path) == mine and len(mine) == 8


def test_shards_end_with_the_records_of_one_process(folder: Path, results: Path, tmp_path: Path) -> None:
    for i in range(2):
        assert main(["probe", *words(folder, tmp_path), f"shard={i}/2"]) == 0
    mine = {name: data for name, data in files(results).items() if cell_of(results).run_id in name}
    assert files(tmp_path) == mine


def test_a_sweep_makes_a_job_for_each_probe(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "-m", *words(folder, tmp_path), "task.passkey.seed=0,1"]) == 0
    assert "2 cells in 2 jobs" in capsys.readouterr().out
    assert all(cell.done and is_probe(cell) for cell in read_cells(tmp_path)) and len(read_cells(tmp_path)) == 2


# ---- where it is shown


def test_the_terminal_shows_the_leading_rows_in_its_width(results: Path) -> None:
    out = io.StringIO()
    tables.render(read_cells(results), Terminal(width=46, file=out))
    text = out.getvalue()
    assert "(probe; 3 examples)" in " ".join(text.split()) and "mean" in text and "weight (share)" in text
    shown = [line for line in text.splitlines() if line[:1].isdigit()]
    assert len(shown) == 12 and all(len(line) <= 46 for line in shown)


def test_the_report_has_probes_apart_from_results(results: Path, tmp_path: Path) -> None:
    assert report([str(results)], str(tmp_path)) == 0
    names = {row["method"] for row in csv.DictReader((tmp_path / "leaderboard.csv").open())}
    assert names == {"dense", "sliding"}
    rows = list(csv.DictReader((tmp_path / "probes.csv").open()))
    assert len(rows) == 12 and {row["probe"] for row in rows} == {"peak"} and rows[0]["table"] == "mean"
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## Probes" in text and "| layer | head | weight (share) |" in text
    page = (tmp_path / "index.html").read_text()
    assert '"name":"tiny-llama / peak / passkey"' in page and "data:image/png;base64," in page


def test_the_tracker_gets_the_tables(results: Path) -> None:
    told = payload(cell_of(results))
    assert set(told["tables"]) == {"mean", "rows"} and len(told["tables"]["rows"]["rows"]) == 36
    assert told["tables"]["mean"]["columns"] == ["layer", "head", "weight (share)"]
    assert payload(cell_of(results, "dense"))["tables"] == {} and json.loads(json.dumps(told)) == told


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_tracker_writes_the_tables_offline(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    root, run_id = tmp_path / "r", cell_of(results).run_id
    shutil.copytree(results, root)
    assert "1 offline" in str(sync(root, [run_id], "offline", "proj", "sweep-1"))
    (table,) = root.glob(f"wandb/offline-run-*{run_id}/files/media/table/tables/mean*.json")
    stored, told = json.loads(table.read_text()), payload(cell_of(root))["tables"]["mean"]
    assert (stored["columns"], stored["data"]) == (told["columns"], told["rows"])
    assert list(root.glob(f"wandb/offline-run-*{run_id}/files/media/images/figures/mean*.png"))


def test_verbs_about_results_leave_probes_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", f"results={results}"]) == 0
    assert main(["gate", "--baseline", str(results), "--candidate", str(results)]) == 0
    assert "peak" not in capsys.readouterr().out.split("tiny-llama / sliding")[-1]
    assert main(["compare", "dense", "peak", f"results={results}"]) == 2
    assert "a probe's, which has tables and no result" in " ".join(capsys.readouterr().out.split())
    out = ["--format", "lm-eval", "--results", str(results), "--out", str(tmp_path)]
    assert main(["export", *out]) == 0
    assert "left out tiny-llama / peak / passkey" in capsys.readouterr().out
    assert not [p for p in tmp_path.iterdir() if "peak" in p.name]
    assert main(["export", "peak", *out]) == 2


def test_a_plan_with_probes_is_priced_and_says_what_it_leaves_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--dry-run", *words(folder, tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 cells, 0 finished" in shown and "further forwards of a probe" in shown


# ---- what is refused


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ("Meddler", "Probe 'meddler' changed what the model computes"),
        ("Sleeper", "Probe 'sleeper' saw nothing in layers 3 of 3"),
        ("Blind", "Probe 'blind' saw nothing on 3 examples of task 'passkey'"),
        ("Picky", "Probe 'picky' looks for an example about unicorns, and none of the 3 examples"),
        ("Sloppy", "row 0 has nan in column 'weight', which holds a number"),
    ],
)
def test_a_probe_that_does_not_look_as_it_should_is_told_in_one_paragraph(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], probe: str, told: str
) -> None:
    assert main(["probe", *words(folder, tmp_path, probe)]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert told in shown and "Traceback (most recent" not in shown
    assert not any(cell.done for cell in read_cells(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["probe=[fct]"], "Unknown probe 'fct': did you mean 'fcct'?"),
        (["probe=[fcct]", "method=[dense]"], "are both given: a probe looks at the model as it is"),
        (["method=[dense]"], "No probe was chosen"),
        (["probe=[fcct]", "probe.fcct.noise_step=0"], "probe.fcct.noise_step is 0, but the diffusion has 1000 steps"),
        (["+probe.x._target_=methods.dense.Dense"], "'methods.dense.Dense' is no probe"),
    ],
)
def test_mistakes_are_answered_before_anything_is_loaded(
    overrides: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *overrides, *OFF]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_probe_of_pictures_is_refused_on_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", f"model={folder}", "probe=[fcct]", *TASK, *OFF, f"results={tmp_path}"]) == 2
    assert "works on pictures" in " ".join(capsys.readouterr().out.split())


def test_a_table_that_was_edited_is_named(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "edited"
    shutil.copytree(results, root)
    cell = cell_of(root)
    (cell.path / "tables" / "mean.json").write_text('{"columns": [], "rows": [[1]]}')
    assert report([str(root)], str(tmp_path / "a")) == 0
    assert "mean.json was changed after the cell was finished" in " ".join(capsys.readouterr().out.split())
    seal.write(cell.path)  # sealed as it is, it is still no table
    assert report([str(root)], str(tmp_path / "b")) == 0
    assert "mean.json is damaged (it is no table" in " ".join(capsys.readouterr().out.split())


def test_a_probe_that_acts_is_no_class_at_all() -> None:
    with pytest.raises(TypeError, match="overrides transform: a probe only looks"):
        type("Acting", (Probe,), {"transform": lambda self, view, draft, ask: draft})


def test_conclusions_are_stored_alike_however_often(tmp_path: Path) -> None:
    found = Peak().conclude([[(0, 0, 0.5), (0, 1, 0.25)], [(0, 0, 1.0), (0, 1, 0.75)]])
    assert found.tables["mean"].rows == ((0, 0, 0.75), (0, 1, 0.5))
    store(tmp_path, found, "{}")
    first = files(tmp_path.parent), concluded(tmp_path)
    store(tmp_path, found, "{}")
    assert (files(tmp_path.parent), concluded(tmp_path)) == first


def test_the_loop_reports_a_probe_like_any_cell(folder: Path, tmp_path: Path) -> None:
    plan = cells(compose(words(folder, tmp_path, "Peak", "Blind")))
    assert [o.status for o in execute(plan, RunSettings(tmp_path))] == ["done", "refused"]
