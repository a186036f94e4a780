"""`heed run -m`: from commas to jobs and cells, mistakes in one paragraph, and sweeps in this process."""

import json
import shutil
import sys

import pytest

from harness.cli import main
from harness.commands.run import once
from harness.errors import UserError
from harness.launch.expand import expand
from harness.launch.job_call import JobCall
from harness.launch.options import launcher, split
from tests.models.small import save
from tests.running.test_run import records

TINY = ("task.passkey.lengths=[512]", "task.passkey.depths=[0,100]", "efficiency=off", "tracking=disabled")


def labels(job):
    return [f"{c.method_label}/{c.task_label}" for c in job.cells]


# -- expanding -------------------------------------------------------------------------------------------------------


def test_commas_make_jobs_and_brackets_make_matrices():
    found = expand(["model=micro-lm", "method=power,[quest,snapkv]", "task=[passkey,recall]"])
    assert [labels(j) for j in found.jobs] == [
        ["dense/passkey", "power/passkey", "dense/recall", "power/recall"],
        ["dense/passkey", "quest/passkey", "snapkv/passkey", "dense/recall", "quest/recall", "snapkv/recall"],
    ]
    assert len(found.plan) == 8 and len(found.matrices) == 1
    assert [j.label for j in found.jobs] == ["method=power", "method=[quest,snapkv]"]


def test_side_by_side_the_baseline_is_a_job_of_its_own():
    found = expand(["method=power,quest", "task=passkey,recall"], alone=False)
    every = [label for job in found.jobs for label in labels(job)]
    assert len(every) == len(set(every)) == 6
    assert all("baseline=false" in job.overrides for job in found.jobs)


def test_options_of_a_method_go_to_its_jobs_alone():
    found = expand(["method=power,quest", "method.power.window_blocks=3,5"], alone=False)
    assert [labels(j) for j in found.jobs] == [
        ["dense/passkey"],
        ["power/passkey"],
        ["power/passkey"],
        ["quest/passkey"],
    ]
    assert len({c.run_id for job in found.jobs for c in job.cells}) == 4
    assert not any("power" in text for text in found.jobs[-1].overrides)


def test_other_keys_are_composed_for_each_value():
    found = expand(["method=power", "seed=range(0,3)", "limit=4,8"])
    assert len(found.jobs) == len(found.matrices) == 6
    cut = {(dict(c.identity)["seed"], cfg.limit) for cfg, plan in found.matrices for c in plan}
    assert len(cut) == 6 and len(found.plan) == 12


def test_variants_go_to_the_jobs_that_hold_their_original():
    variant = ["+method.wide=${method.power}", "method.wide.window_blocks=9"]
    found = expand(["method=power,quest", "baseline=false", *variant])
    assert [labels(j) for j in found.jobs] == [["power/passkey", "wide/passkey"], ["quest/passkey"]]
    assert found.variants == variant


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 5, 9])
def test_parts_hold_every_cell_once(n_jobs):
    found = expand(["method=[power,quest]", "task=[passkey,recall]"], n_jobs=n_jobs)
    every = [c.run_id for job in found.jobs for c in job.cells]
    assert sorted(every) == sorted(c.run_id for c in found.plan) and len(found.jobs) == min(n_jobs, 6)
    assert all(job.cells for job in found.jobs)


def test_shards_have_the_cells_in_common():
    found = expand(["method=[power]"], n_shards=3)
    assert [labels(j) for j in found.jobs] == [["dense/passkey", "power/passkey"]] * 3
    assert [j.label for j in found.jobs] == ["shard=0/3", "shard=1/3", "shard=2/3"]


@pytest.mark.parametrize("n_jobs", [1, 2, 6])
def test_only_jobs_with_something_left_are_run(n_jobs):
    found = expand(["method=[power,quest]", "task=[passkey,recall]"], n_jobs=n_jobs)
    every = {c.run_id for c in found.plan}
    assert all(job.left(set()) for job in found.jobs) and not any(job.left(every) for job in found.jobs)
    last = found.jobs[-1].cells[-1].run_id
    assert [job.left(every - {last}) for job in found.jobs] == [False] * (len(found.jobs) - 1) + [True]


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["launcher=slrm"], "did you mean 'slurm'"),
        (["jobs=0"], "Write a number from 1"),
        (["shards=two"], "how many shards"),
        (["results=a,b"], "one folder for the whole sweep"),
        (["part=0/2"], "jobs=N or shards=N"),
        (["method=power,pwer"], "did you mean 'power'"),
        (["decoding.temperature=interval(0,1)"], "one by one"),
        (["method.power.windw_blocks=3", "method=power,quest"], "did you mean 'window_blocks'"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_paragraph(overrides, words, tmp_path, capsys):
    assert (
        main(["run", "-m", *overrides, *([] if overrides[0].startswith("results") else [f"results={tmp_path}"])]) == 2
    )
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["launcher=slurm", "launcher.partition=gpu", "jobs=4", "shards=2"])
def test_words_of_a_sweep_without_m_say_so(text, capsys):
    assert main(["run", text]) == 2
    assert f"Add -m: heed run -m {text}" in capsys.readouterr().err


def test_slurm_without_its_package_or_its_commands_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    submitit = pytest.importorskip("submitit")
    with pytest.raises(UserError, match="sbatch, which is not on the PATH"):
        launcher(split(["launcher=slurm"])[1], tmp_path, JobCall(once, (), "x"))
    monkeypatch.setitem(sys.modules, submitit.__name__, None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install .*heed\[slurm\]"):
        launcher(split(["launcher=slurm"])[1], tmp_path, JobCall(once, (), "x"))


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="Slurm is not installed")
def test_options_of_the_launcher_are_checked(tmp_path):
    with pytest.raises(UserError, match=r"'launcher.partion' .*did you mean 'partition'"):
        launcher(split(["launcher=slurm", "launcher.partion=gpu"])[1], tmp_path, JobCall(once, (), "x"))
    made = launcher(
        split(["launcher=slurm", "launcher.partition=gpu", "launcher.additional_parameters.mail-type=END"])[1],
        tmp_path / "it's a folder", JobCall(once, (), "x"),
    )  # fmt: skip
    assert made.params["partition"] == "gpu" and made.params["submitit_folder"] == str(tmp_path / "it's a folder")
    assert made.params["additional_parameters"] == {"requeue": True, "mail-type": "END"}


# -- sweeps in this process ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


def test_a_sweep_here_ends_with_the_records_of_one_process_and_a_table_of_all(folder, tmp_path, capsys):
    whole, swept = tmp_path / "whole", tmp_path / "swept"
    matrix = [f"model={folder}", "method=[power,quest]", "share=false", *TINY]
    assert main(["run", *matrix, f"results={whole}"]) == 0
    capsys.readouterr()
    assert main(["run", "-m", *matrix, "jobs=3", f"results={swept}"]) == 0
    assert records(swept) == records(whole)
    last = capsys.readouterr().out.rpartition("tiny-llama / passkey")[2]
    assert all(name in last for name in ("dense", "power", "quest"))
    assert not list(swept.glob("sweeps/*"))
    (plan,) = swept.glob("plans/*.json")
    assert len(json.loads(plan.read_text())["cells"]) == 3


def test_a_job_that_fails_does_not_stop_the_others(folder, tmp_path, capsys):
    """512 tokens do not fit the second model."""
    small = save(tmp_path / "small", max_position_embeddings=128)
    code = main(["run", "-m", f"model={small},{folder}", "method=power", *TINY, f"results={tmp_path / 'results'}"])
    said = capsys.readouterr().out
    assert code == 2 and "2 of 4 cells are not finished. To continue: heed run -m" in said
    assert len(list((tmp_path / "results").glob("runs/*/DONE"))) == 2
