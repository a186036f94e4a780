"""Sweeps on a real local Ray cluster: the records of one process, whatever dies or fails; a model is loaded once."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.commands.run import once
from harness.errors import UserError
from harness.launch.ended import JobBug, JobLost
from harness.launch.expand import expand
from harness.launch.job_call import JobCall
from harness.launch.options import Options, launcher
from hydra_plugins.heed_ray._jobs import choose, jobs_of
from tests.models.small import save
from tests.running.test_run import records

ROOT = Path(__file__).parents[2]
MATRIX = (
    "method=[dense,power,quest]", "task.passkey.lengths=[384,512]", "task.recall.lengths=[768]", "efficiency=off",
    "batch_tokens=1200", "limit=8",
)  # fmt: skip
RAY = ("launcher=ray", "launcher.actors=2", "launcher.init.num_cpus=2")


def on_ray(test):
    missing = importlib.util.find_spec("ray") is None
    return pytest.mark.slow(pytest.mark.skipif(missing, reason="ray is not installed")(test))


def heed(*arguments, before=""):
    return [
        sys.executable,
        "-c",
        f"import sys; {before}\nfrom harness.cli import main; sys.exit(main())",
        "run",
        *arguments,
    ]


def sweep(root, *overrides):
    return heed("-m", *MATRIX, *RAY, f"results={root}", *overrides)


def finished(command, **environment):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


def logs(root):
    return {path.stem: path.read_text() for path in root.glob("sweeps/*/*.log")}


def n_samples(root):
    return sum(path.read_bytes().count(b"\n") for path in root.glob("runs/*/samples.jsonl"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [save(root / name, seed=seed, max_position_embeddings=4096) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def single(models, tmp_path_factory):
    """The records that one process writes for one matrix."""
    root = tmp_path_factory.mktemp("single")
    done = finished(heed(f"model=[{models[0]},{models[1]}]", "task=[passkey,recall]", *MATRIX, f"results={root}"))
    assert done.returncode == 0, done.stderr
    return records(root)


# -- without a cluster ---------------------------------------------------------------------------------------------------


def test_an_actor_takes_a_job_of_the_model_it_holds_then_one_whose_model_nobody_holds_then_any():
    jobs = jobs_of([[f"model={m}", f"task=[{t}]", "seed=0"] for m in "ab" for t in "xy"], 0, Path("logs"))
    assert [job.label for job in jobs] == [
        "model=a task=[x]",
        "model=a task=[y]",
        "model=b task=[x]",
        "model=b task=[y]",
    ]
    a, b = ("model=a",), ("model=b",)
    assert choose(jobs, b, [a]).number == 2
    assert choose(jobs, None, [a]).number == 2
    assert choose(jobs, None, [a, b]).number == 0
    assert choose([], a, []) is None


def test_without_ray_one_paragraph_says_how_to_install_it(tmp_path):
    done = finished(
        heed("-m", "task=passkey,recall", RAY[0], f"results={tmp_path}", before="sys.modules['ray'] = None")
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'heed[ray]'" in done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [("actors=0", "at least 1"), ("num_cpus=-1", "at least 0"), ("runtime_env=here", "must be a mapping")],
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_starts(option, words, tmp_path):
    done = finished(heed("-m", "task=passkey,recall", RAY[0], f"launcher.{option}", f"results={tmp_path}"))
    assert done.returncode == 2 and f"launcher.{option}" in done.stderr and words in done.stderr


# -- on a cluster --------------------------------------------------------------------------------------------------------


def launched(task, jobs, folder, **options):
    """What the launcher returns for jobs of a task of our own."""
    values = {"actors": "2", "init.num_cpus": "2", **options}
    return launcher(Options("ray", tuple(values.items())), folder, task).launch(jobs, initial_job_idx=0)


@on_ray
def test_a_sweep_has_the_records_of_one_process_and_loads_each_model_once_per_actor(models, single, tmp_path, capsys):
    loads, root = tmp_path / "loads.txt", tmp_path / "results"

    def counted(cfg):
        """A job as ever; each call of `ModelSpec.load` leaves a line."""
        from harness.models.load import ModelSpec

        load = ModelSpec.load

        def noted(spec):
            with loads.open("a") as file:
                file.write(f"{os.getpid()} {spec.path}\n")
            return load(spec)

        ModelSpec.load = noted
        try:
            return JobCall(once, (), "sweep")(cfg)
        finally:
            ModelSpec.load = load

    found = expand([f"model={models[0]},{models[1]}", "task=passkey,recall", *MATRIX, f"results={root}"])
    ended = launched(counted, [list(job.overrides) for job in found.jobs], root / "sweeps" / "one")
    assert [returned.return_value for returned in ended] == [0] * 4
    assert records(root) == single
    counts = Counter(loads.read_text().splitlines())
    assert set(counts.values()) == {1} and len({line.split()[0] for line in counts}) <= 2
    output = capsys.readouterr().out
    assert "[4/4]" in output and "cells" not in output  # what jobs print stands in their logs
    assert all("cells" in text for text in logs(root).values())


@on_ray
def test_however_a_job_ends_the_others_go_on(tmp_path):
    def job(cfg):
        if cfg.seed == 0:
            raise UserError("seed 0 is not liked")
        if cfg.seed == 1:
            raise RuntimeError("a bug")
        if cfg.seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7 if cfg.seed == 3 else 0

    mistake, bug, lost, code, fine = launched(job, [[f"seed={i}"] for i in range(5)], tmp_path, max_restarts="1")
    assert isinstance(mistake._return_value, UserError) and str(mistake._return_value) == "seed 0 is not liked"
    assert isinstance(bug._return_value, JobBug) and "RuntimeError: a bug" in str(bug._return_value)
    assert isinstance(lost._return_value, JobLost) and "died 2 times" in str(lost._return_value)
    assert (code.return_value, fine.return_value) == (7, 0)
    assert (tmp_path / "2.log").read_text().count("# the actor of job 2 died") == 2


@on_ray
def test_an_actor_killed_in_the_middle_of_a_job_changes_nothing(models, single, tmp_path):
    command = sweep(tmp_path, f"model={models[0]},{models[1]}", "task=[passkey,recall]")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and n_samples(tmp_path) < 3:
        time.sleep(0.01)
    working = next(text for text in logs(tmp_path).values() if "ended with exit code" not in text)
    os.kill(int(re.search(r"process (\d+)", working)[1]), signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "its actor died; started again (1 of 2)" in output
    assert records(tmp_path) == single


@on_ray
def test_a_sweep_with_a_failed_job_ends_with_exit_code_2(models, tmp_path):
    broken = save(tmp_path / "broken", max_position_embeddings=4096, intermediate_size=64)
    shutil.copy(models[0] / "model.safetensors", broken)
    root = tmp_path / "results"
    done = finished(sweep(root, f"model={broken},{models[0]}", "task=passkey,recall"))
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert re.search(r"job 0, model=broken .*: exit code 2; its log: .*0\.log", done.stdout) and "[4/4]" in done.stdout
    assert "has shape" in done.stdout and len(list(root.glob("runs/*/DONE"))) == 6


@on_ray
def test_what_the_cluster_cannot_give_is_one_paragraph(tmp_path):
    done = finished(heed("-m", "task=passkey,recall", *RAY, "launcher.num_gpus=64", f"results={tmp_path}"))
    assert done.returncode == 2 and "64 GPUs" in done.stderr and done.stderr.count("\n") == 1
    done = finished(heed("-m", "task=passkey,recall", RAY[0], "launcher.init={cpus: 2}", f"results={tmp_path}"))
    assert done.returncode == 2 and "launcher.init" in done.stderr and done.stderr.count("\n") == 1
