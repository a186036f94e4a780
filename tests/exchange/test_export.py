"""`heed export --format lm-eval`: what it writes is read here with lm-evaluation-harness's own functions."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.commands.export import chosen
from harness.config.compose import compose
from harness.errors import UserError
from harness.plan.cells import cells
from harness.records import seal
from harness.records.cells import read_cells
from harness.running.run import RunSettings, execute
from tests.models.small import save
from tests.tasks.lm_eval.material import write

pytest.importorskip("lm_eval")  # the optional extra


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on tasks of the library and on our own; a third method is refused."""
    root = tmp_path_factory.mktemp("export")
    model, folder = save(root / "tiny", max_position_embeddings=512), write(root / "tasks", n=5)
    common = [f"model={model}", "method=[sliding]", "method.sliding.block_size=8"]
    for task in (
        ["task=lm_eval", f"task.lm_eval.include=[{folder}]", "task.lm_eval.tasks=[toy,toy_sums,toy_text,toy_pairs]"],
        ["task=[passkey]", "task.passkey.lengths=[256]", "task.passkey.depths=[0,100]"],
        [
            "task=[perplexity]",
            "task.perplexity.max_tokens=300",
            "task.perplexity.window=128",
            "task.perplexity.stride=64",
        ],
    ):
        execute(cells(compose([*common, *task])), RunSettings(root, efficiency="off"))
    refused = ["method=[carve]", "baseline=false", "task=[passkey]", "task.passkey.lengths=[256]"]
    execute(cells(compose([f"model={model}", *refused])), RunSettings(root, efficiency="off"))
    return root


@pytest.fixture(scope="module")
def out(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("out")
    assert main(["export", "--format", "lm-eval", "--results", str(results), "--out", str(place)]) == 0
    return place


def stored(folder: Path) -> dict[str, Any]:
    from lm_eval.utils import get_latest_filename, get_results_filenames

    return json.loads(Path(get_latest_filename(get_results_filenames(list(map(str, folder.iterdir()))))).read_text())


def samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    from lm_eval.utils import get_file_task_name, get_sample_results_filenames

    files = get_sample_results_filenames(list(map(str, folder.iterdir())))
    return {get_file_task_name(Path(f).name): [json.loads(x) for x in Path(f).read_text().splitlines()] for f in files}


def test_a_folder_for_each_model_and_method(out: Path) -> None:
    assert sorted(p.name for p in out.iterdir()) == ["tiny__dense", "tiny__sliding"]


@pytest.mark.parametrize("method", ["dense", "sliding"])
def test_results_are_what_the_library_s_schema_says(out: Path, method: str) -> None:
    from lm_eval.result_schema import EvalResults

    found = stored(out / f"tiny__{method}")
    assert set(found) <= set(EvalResults.__annotations__)
    assert {"results", "groups", "configs", "versions", "n-shot", "n-samples", "config", "date", "task_hashes"} <= set(
        found
    )
    tasks = {"toy_choice", "toy_last", "toy_sums", "toy_text", "toy_pairs", "passkey", "perplexity"}
    assert set(found["results"]) == tasks | {"toy"} and set(found["configs"]) == tasks
    assert found["model_name_sanitized"] == f"tiny__{method}" and f"method={method}" in found["config"]["model_args"]
    assert set(found["config"]["heed"]["runs"]) == {"lm_eval", "passkey", "perplexity"}


def test_the_library_s_table_shows_every_number(out: Path) -> None:
    from lm_eval.utils import make_table

    found = stored(out / "tiny__sliding")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in make_table(found).splitlines()]
    shown = [(row[2], row[4], float(row[6])) for row in lines[2:]]  # filter, metric, value
    expected = [
        (chosen, metric, value)
        for values in found["results"].values()
        for metric, _, chosen, value in ((*key.partition(","), value) for key, value in values.items())
        if chosen and not metric.endswith("_stderr")
    ]
    assert sorted(row[:2] for row in shown) == sorted(row[:2] for row in expected)
    for name, metric, value in expected:  # a large number in the column leaves the others few digits
        assert any(row[:2] == (name, metric) and row[2] == pytest.approx(value, rel=1e-3, abs=0.05) for row in shown)
    assert "toy" in make_table(found, "groups")


def test_numbers_are_those_of_the_records(out: Path, results: Path) -> None:
    found = stored(out / "tiny__sliding")["results"]
    by_task = {c.labels["task"]: c for c in read_cells(results) if c.labels["method"] == "sliding"}
    ours = by_task["passkey"].metrics["values"]["accuracy"]
    assert found["passkey"]["accuracy,none"] == ours["value"]
    assert found["passkey"]["accuracy_stderr,none"] == pytest.approx((ours["high"] - ours["low"]) / 2 / 1.96, rel=1e-4)
    assert found["perplexity"]["ppl,none"] == by_task["perplexity"].metrics["values"]["ppl"]["value"]
    groups = {g["by"]["task"]: g["values"] for g in by_task["lm_eval"].metrics["groups"]}
    for task, key in (("toy_choice", "acc_norm"), ("toy_text", "word_perplexity"), ("toy_pairs", "f1")):
        assert found[task][f"{key},none"] == pytest.approx(groups[task][key]["value"], rel=1e-6)


def test_samples_have_the_library_s_keys_and_hashes(out: Path) -> None:
    from lm_eval.result_schema import SampleResult

    found = samples(out / "tiny__dense")
    fixed = set(SampleResult.__annotations__)
    assert {"toy_choice", "toy_sums", "toy_text", "passkey"} <= set(found)
    for rows in found.values():
        for row in rows:
            assert fixed <= set(row) and set(row) - fixed == set(row["metrics"]) - fixed
    one = found["toy_choice"][0]
    assert [one["arguments"][f"gen_args_{i}"]["arg_1"].strip() for i in range(4)] == one["doc"]["choices"]
    assert one["prompt_hash"] == hashlib.sha256(one["arguments"]["gen_args_0"]["arg_0"].encode()).hexdigest()
    assert [row["filter"] for row in found["toy_sums"]] == ["first-number"] * 5 + ["last-number"] * 5
    assert [row["doc_id"] for row in found["toy_sums"]] == [*range(5), *range(5)]
    assert isinstance(found["toy_choice"][0]["filtered_resps"][0][0], str)


def test_the_library_s_hub_reader_loads_the_samples(out: Path, tmp_path: Path) -> None:
    import datasets

    for file in (out / "tiny__dense").glob("samples_*.jsonl"):
        table = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
        assert len(table) == len(file.read_text().splitlines())


def test_the_library_s_wandb_logger_takes_the_results(out: Path) -> None:
    pytest.importorskip("wandb")
    from lm_eval.loggers import WandbLogger

    logger = WandbLogger(init_args={"mode": "disabled", "reinit": True})
    logger.post_init(stored(out / "tiny__sliding"))
    logger.log_eval_result()
    assert logger.wandb_results["toy_choice/acc"] == stored(out / "tiny__sliding")["results"]["toy_choice"]["acc,none"]
    logger.run.finish()


def test_the_same_records_give_the_same_bytes(out: Path, results: Path, tmp_path: Path) -> None:
    assert main(["export", "--format", "lm-eval", "--results", str(results), "--out", str(tmp_path)]) == 0
    files = sorted(p.relative_to(out) for p in out.rglob("*.json*"))
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.json*"))
    assert all((out / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)


def test_cells_of_the_previous_layout_are_exported_alike(out: Path, results: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(results, old)
    for summary in old.glob("runs/*/summary.json"):  # it stood among the figures
        (summary.parent / "figures").mkdir(exist_ok=True)
        summary.rename(summary.parent / "figures" / "lm_eval.json")
        seal.write(summary.parent)
    assert list(old.glob("runs/*/figures/lm_eval.json"))
    assert main(["export", "--format", "lm-eval", "--results", str(old), "--out", str(tmp_path / "out")]) == 0
    files = {p.relative_to(out): p.read_bytes() for p in out.rglob("*.json*")}
    assert files == {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*.json*")}


def test_cells_are_chosen_by_label_and_run_id(results: Path) -> None:
    every = read_cells(results)
    names = lambda *which: {(c.labels["method"], c.labels["task"]) for c in chosen(every, which, "r")}  # noqa: E731
    assert names("sliding", "dense", "passkey") == {("sliding", "passkey"), ("dense", "passkey")}
    assert names("tiny") == names()
    assert names(every[0].run_id[:8]) == {(every[0].labels["method"], every[0].labels["task"])}
    with pytest.raises(UserError, match="did you mean 'sliding'"):
        names("slidin")
    with pytest.raises(UserError, match="named by all of"):
        names("carve", "lm_eval")


def test_two_cells_with_one_task_name_do_not_overwrite_each_other(results: Path, tmp_path: Path) -> None:
    options = ["method=[dense]", "task=[passkey]", "task.passkey.lengths=[300]", "task.passkey.depths=[0,100]"]
    other = tmp_path / "r"
    (other / "runs").mkdir(parents=True)
    for cell in read_cells(results):
        if cell.labels["method"] == "dense":
            (other / "runs" / cell.run_id).symlink_to(cell.path)
    execute(cells(compose([f"model={results / 'tiny'}", *options])), RunSettings(other, efficiency="off"))
    assert (
        main(["export", "--format", "lm-eval", "--results", str(other), "--out", str(tmp_path / "o"), "passkey"]) == 0
    )
    assert len(list((tmp_path / "o").iterdir())) == 2
    assert sum(len(samples(p)["passkey"]) for p in (tmp_path / "o").iterdir()) == sum(
        c.metrics["n"] for c in read_cells(other) if c.labels["task"] == "passkey"
    )


def test_mistakes_are_answered(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path)]
    assert main(["export", "--format", "lmeval", "--results", str(results), *out]) == 2
    assert "did you mean 'lm-eval'" in capsys.readouterr().err
    assert main(["export", "--format", "lm-eval", "--results", str(tmp_path / "none"), *out]) == 2
    assert "holds no cells" in capsys.readouterr().err
    assert main(["export", "--format", "lm-eval", "--results", str(results), *out, "carve"]) == 2
    assert "nothing to export" in capsys.readouterr().err


def test_unfinished_cells_are_named(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--format", "lm-eval", "--results", str(results), "--out", str(tmp_path), "passkey"]) == 0
    assert "left out tiny / carve / passkey" in capsys.readouterr().out
