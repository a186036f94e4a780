"""The command line as a user meets it: exit codes, one paragraph, no traceback, no torch before it must."""

import subprocess
import sys
import time

import pytest

from harness.cli import main
from tests.models.small import save


def heed(*args, code="import sys; from harness.cli import main; sys.exit(main())"):
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=300)


NO_TORCH = "import sys; from harness.cli import main; c = main(); sys.exit(99 if 'torch' in sys.modules else c)"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["list"], 0),
        (["list", "methods"], 0),
        (["run", "method=pwer"], 2),
        (["run", "task.passkey.lenghts=[256]"], 2),
        (["run", "--dry-run", "model.micro-lm.device=cpu", "method=[power,quest]", "task=[passkey,ruler]"], 0),
    ],
)
def test_answers_without_torch(args, code):
    assert heed(*args, code=NO_TORCH).returncode == code


NO_LIBRARY = (
    "import sys; from harness.cli import main; c = main(); print({'numpy', 'omegaconf', 'hydra'} & {*sys.modules})"
)


def test_listing_imports_no_library_that_computes_or_composes():
    assert heed("list", code=NO_LIBRARY).stdout.endswith("set()\n")


@pytest.mark.parametrize("args", [["--help"], ["list"], ["run", "method=pwer"]])
def test_answers_soon(args):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        heed(*args)
        times.append(time.perf_counter() - start)
    assert min(times) < 1.5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "method=pwer"], "did you mean 'power'"),
        (["run", "method=[power]", "method.power.windw_blocks=3"], "did you mean 'window_blocks'"),
        (["run", "method=[sliding]", "method.sliding.window_blocks=0"], "window"),
        (["run", "model=./no-such-folder"], "no-such-folder"),
        (["run", "task.passkey.lengths=[8]"], "length"),
        (["data", "task=ruler"], "out=FILE"),
        (["data", "out=x.jsonl"], "task=NAME"),
        (["score", "task=passkey", "examples=none.jsonl", "outputs=none.jsonl", "out=x.json"], "none.jsonl"),
        (["run", "-m", "method=dense,pwer"], "did you mean 'power'"),
        (["run", "-m", "method=[power]", "method.power.windw_blocks=9", "seed=0,1"], "did you mean 'window_blocks'"),
    ],
)
def test_a_mistake_is_one_paragraph_with_exit_2(args, words):
    result = heed(*args)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_run_prints_the_table_and_keeps_records(tmp_path, capsys):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    args = ["run", f"model={folder}", "method=[power]", "task.passkey.lengths=[512]", "task.passkey.depths=[0,100]"]
    assert main([*args, f"results={tmp_path / 'results'}"]) == 0
    shown = capsys.readouterr().out
    assert "power" in shown and "dense" in shown
    assert main([*args, f"results={tmp_path / 'results'}"]) == 0
    assert "2 finished before, 0 to run" in capsys.readouterr().out


@pytest.mark.slow
def test_multirun_makes_jobs(tmp_path):
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    result = heed(
        "run", "-m", f"model={folder}", "method=power,quest", "task.passkey.lengths=[512]", "task.passkey.depths=[0]",
        f"results={tmp_path / 'results'}", "efficiency=off",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "results" / "runs").glob("*/DONE"))) == 3  # dense is shared


def test_data_and_score_round_trip(tmp_path):
    import json

    examples, outputs, scores = (tmp_path / n for n in ("a.jsonl", "b.jsonl", "c.json"))
    assert main(["data", "task=passkey", "task.passkey.lengths=[256]", f"out={examples}"]) == 0
    rows = [json.loads(line) for line in examples.read_text().splitlines()]
    outputs.write_text("".join(json.dumps({"id": r["id"], "text": f" {r['references'][0]}."}) + "\n" for r in rows))
    assert main(["score", "task=passkey", f"examples={examples}", f"outputs={outputs}", f"out={scores}"]) == 0
    result = json.loads(scores.read_text())
    assert result["metrics"]["accuracy"] == 1.0 and len(result["examples"]) == len(rows)


def test_variants_work_in_a_sweep():
    result = heed(
        "run",
        "-m",
        "+method.wide=${method.power}",
        "method.wide.window_blocks=9",
        "method=[power]",
        "seed=0,1",
        "--dry-run",
    )
    assert result.returncode == 0 and result.stdout.count("wide") == 2, result.stderr
