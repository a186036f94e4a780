"""Sweeps on a real Slurm of two nodes: whatever happens to jobs and nodes, the records are those of one process."""

import random
import re
import signal
import time

import psutil
import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.drive import MATRIX, finish, middle_of, reach, same, samples, start, sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(model):
    """The matrix of `single`."""
    return (f"model={model}", *MATRIX)


def status(root):
    return finish(start("status", f"results={root}")).output


def test_arrays_of_jobs_write_what_one_process_writes(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "jobs=2")
    assert len(middle_of(root, run, cluster, n=1, jobs=2)) == 2
    assert re.search(r"\b[1-6] running", status(root))
    assert finish(run, cluster).returncode == 0, run.output
    assert "2 jobs submitted to Slurm as" in run.output and "power" in run.output
    assert same(root, single)
    assert "6 cells: 6 finished" in status(root)
    again = finish(sweep(cluster, root, *asked, "jobs=2"))
    assert again.returncode == 0 and "0 jobs to run" in again.output and "submitted" not in again.output


def test_commas_make_jobs_and_the_baseline_is_one_of_them(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    commas = [o.replace("[power,quest]", "power,quest").replace("[passkey,recall]", "passkey,recall") for o in asked]
    run = finish(sweep(cluster, root, *commas), cluster)
    assert run.returncode == 0 and "6 cells in 6 jobs" in run.output, run.output
    assert same(root, single, together=False)


def test_shards_of_a_cell_on_two_nodes_at_once(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "shards=2")
    nodes = middle_of(root, run, cluster, n=4, jobs=2)
    assert sorted(nodes.values()) == cluster.nodes
    assert finish(run, cluster).returncode == 0, run.output
    assert same(root, single)


def test_a_cancelled_job_loses_nothing_and_the_same_command_continues(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "jobs=2")
    victim = min(middle_of(root, run, cluster, jobs=2))
    cluster.run("scancel", victim)
    finish(run, cluster)
    assert run.returncode == 2, run.output
    assert f"job {victim} was cancelled" in run.output and "To continue: heed run -m launcher=slurm" in run.output
    assert 3 <= len(list(root.glob("runs/*/DONE"))) < 6
    kept = samples(root)
    assert re.search(r"[1-3] (stopped|pending)", status(root))
    again = finish(sweep(cluster, root, *asked, "jobs=2"), cluster)
    assert again.returncode == 0 and "1 jobs submitted" in again.output, again.output
    assert kept >= 12 and same(root, single)


def test_the_jobs_of_a_node_that_goes_down_run_on_another(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "jobs=2")
    job, node = min(middle_of(root, run, cluster, jobs=2).items())
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    assert finish(run, cluster).returncode == 0, run.output
    log = next(root.glob(f"sweeps/*/{job}_0_log.out")).read_text()
    assert log.count("Starting with JobEnvironment") == 2  # it was started again
    assert same(root, single)


def test_a_job_that_is_requeued_continues(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "jobs=2")
    for job in middle_of(root, run, cluster, jobs=2):
        cluster.run("scontrol", "requeue", job)
    assert finish(run, cluster).returncode == 0, run.output
    assert same(root, single)


def test_a_job_whose_time_is_over_puts_itself_into_the_queue_and_continues(cluster, single, asked, tmp_path):
    """A real time limit. The job is stopped in the middle of a cell, as if its samples took minutes; the signal with which
    Slurm warns wakes it.
    """
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "launcher.timeout_min=2", "launcher.signal_delay_s=30")
    (job,) = middle_of(root, run, cluster)
    (process,) = [p for p in psutil.process_iter(["cmdline"]) if is_job(p, root)]
    process.suspend()
    assert finish(run, cluster).returncode == 0, run.output
    log = next(root.glob(f"sweeps/*/{job}_0_log.out")).read_text()
    assert "this job is timed-out" in log and f"Requeued job {job} (99 remaining timeouts)" in log
    assert log.count("Starting with JobEnvironment") == 2
    assert same(root, single)


def is_job(process, root):
    """Whether it is the Python process of a job (and not the srun that started it)."""
    words = process.info["cmdline"] or []
    return "python" in "".join(words[:1]) and "submitit.core._submit" in words and any(str(root) in w for w in words)


def test_the_process_that_submitted_can_be_interrupted_and_finds_its_jobs_again(cluster, single, asked, tmp_path):
    root = tmp_path / "results"
    run = sweep(cluster, root, *asked, "jobs=2")
    before = middle_of(root, run, cluster, n=1, jobs=2)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 130
    assert "the 2 jobs go on without this process" in run.output
    assert cluster.running().keys() == before.keys()
    again = finish(sweep(cluster, root, *asked, "jobs=2"), cluster)
    assert again.returncode == 0, again.output
    assert "2 jobs of this sweep are in the queue" in again.output and "submitted" not in again.output
    assert same(root, single)


def test_a_plan_larger_than_an_array_may_be_makes_several(slurm, asked, tmp_path):
    with Cluster(1, max_array=3) as small:
        held = "launcher.additional_parameters.hold=true"
        run = sweep(small, tmp_path / "results", *asked, "seed=range(0,8)", held)
        assert reach(run, lambda: "submitted" in run.output), run.output
        jobs = small.run("squeue", "-h", "-r", "-o", "%i").split()
        assert len(jobs) == 8 and len({j.split("_")[0] for j in jobs}) == 3
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(60) == 130


def test_what_slurm_refuses_is_one_paragraph(cluster, asked, tmp_path):
    run = finish(sweep(cluster, tmp_path / "results", *asked, "launcher.partition=nowhere"))
    assert run.returncode == 2 and "Slurm does not take the jobs" in run.output
    assert "Traceback" not in run.output


def test_a_job_that_cannot_start_is_told_with_its_log(cluster, asked, tmp_path):
    run = finish(sweep(cluster, tmp_path / "results", *asked, "launcher.python=/nowhere/python"), cluster)
    assert run.returncode == 2, run.output
    assert re.search(r"job \d+ ended without a result \(FAILED\); its log: \S+_log.out", run.output), run.output


def test_three_random_kills_in_a_sweep_of_two_models(cluster, model, tmp_path):
    """2 models x 6 methods x 3 tasks; a job cancelled, requeued or killed on its node, at random moments (seeded)."""
    rng, root, whole = random.Random(7), tmp_path / "results", tmp_path / "whole"
    matrix = (
        "method=[dense,power,quest,snapkv,h2o,streaming]", "task=[passkey,recall,ruler]", "task.passkey.lengths=[384]",
        "task.passkey.trials=1", "task.recall.lengths=[384]", "task.recall.facts=[2]", "task.recall.samples=5",
        "task.ruler.tasks=[niah_single_1]", "task.ruler.lengths=[768]", "task.ruler.samples=4", "batch_tokens=500", "efficiency=off",
        "tracking=disabled",
    )  # fmt: skip
    both, listed = f"model=micro-lm,{model}", f"model=[micro-lm,{model}]"
    single = start("run", listed, *matrix, f"results={whole}")
    assert finish(single).returncode == 0, single.output
    kills, run = 0, None
    for _ in range(8):  # starts of the same command
        run = sweep(cluster, root, both, *matrix, "jobs=3")
        while kills < 3 and run.process.poll() is None:
            goal = samples(root) + rng.randint(15, 60)
            if not reach(run, lambda goal=goal: samples(root) >= goal and bool(cluster.running()), cluster):
                break
            running = sorted(cluster.running())
            if not running:
                continue
            how, job = ("scancel", "requeue", "kill")[kills], rng.choice(running)
            time.sleep(rng.uniform(0, 0.5))
            if how == "scancel":
                cluster.run("scancel", job, check=False)
            elif how == "requeue":
                cluster.run("scontrol", "requeue", job, check=False)
            else:
                cluster.run("scancel", "--signal=KILL", "--full", job, check=False)
            kills += 1
        finish(run, cluster)
        if run.returncode == 0:
            break
    assert kills == 3 and run.returncode == 0, run.output
    assert same(root, whole)
