"""Every wrong option is answered before anything is loaded: exit code 2, one paragraph that says where and what, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main

BIG = "1000000000000"
IMAGES = ["run", "model=micro-vlm", "task=pope"]
DEPTH = [
    (
        [*IMAGES, f"method={m}", f"method.{m}.{key}={value}"],
        [f"method.{m}.{key}={value}", "finite number", f"Meaning of '{key}'"],
    )
    for m in ("pai", "paint", "vaf", "var")
    for key in ("first_layer", "last_layer")
    for value in ("nan", "inf")
]
BLOCKS = [
    (
        ["run", f"method={m}", f"method.{m}.block_size={BIG}"],
        [f"method.{m}.block_size={BIG}", "from 1 to 65536", "tokens in one block"],
    )
    for m in ("sliding", "power", "stride_slash", "dilated", "longnet", "streaming")
]
NUMBERS = [
    (["run", "method=h2o", "method.h2o.heavy=inf"], ["method.h2o.heavy=inf", "finite"]),
    (["run", "method=h2o", "method.h2o.recent=-inf"], ["method.h2o.recent=-inf", "finite"]),
    ([*IMAGES, "method=m3id", "method.m3id.lam=1e12"], ["method.m3id.lam", "from 0 to 1000"]),
    (["run", "method=quest", f"method.quest.page={BIG}"], ["method.quest.page", "from 1 to 65536"]),
    (["run", "method=quest", f"method.quest.budget={BIG}"], ["method.quest.budget", "to 2147483647"]),
    ([*IMAGES, "method=opera", f"method.opera.num_beams={BIG}"], ["method.opera.num_beams", "from 2 to 256"]),
    ([*IMAGES, "method=opera", "method.opera.weight=inf"], ["method.opera.weight=inf", "finite"]),
    (["run", "method=kvpress", "method.kvpress.kwargs={window_size: -1}"], ["kwargs.window_size=-1", "from 1 to"]),
    (["run", "method=kvpress", "method.kvpress.kwargs={kernel_size: 4}"], ["kwargs.kernel_size=4", "odd"]),
    (["run", "method=kvpress", "method.kvpress.kwargs={kernel_size: 0}"], ["kwargs.kernel_size=0", "from 1 to"]),
    (
        ["run", "method=kvpress", "method.kvpress.kwargs={press: {name: SnapKVPress, window_size: -1}}"],
        ["press.window_size=-1"],
    ),
    (
        ["run", "method=kvpress", "method.kvpress.kwargs={window_size: nan}"],
        ["method.kvpress.kwargs={window_size: nan}", "finite"],
    ),
    (["run", "task=ruler", f"task.ruler.samples={BIG}"], ["task.ruler.samples", "from 1 to 100000"]),
    (["run", f"task.passkey.lengths=[256,{BIG}]"], ["task.passkey.lengths=[256, ", "every number in it", "16777216"]),
    (["run", "task=recall", f"task.recall.samples={BIG}"], ["task.recall.samples"]),
    ([*IMAGES, f"task.pope.scenes={BIG}"], ["task.pope.scenes"]),
    (["run", f"model.micro-lm.max_positions={BIG}"], ["model.micro-lm.max_positions"]),
    (["run", f"limit={BIG}"], ["limit=", "from 1 to 2147483647", "most examples of a task"]),
    (["run", "limit=0"], ["limit=0"]),
    (["run", "batch_tokens=0"], ["batch_tokens=0", "with padding"]),
    (["run", "allow_errors=-1"], ["allow_errors=-1", "from 0"]),
    (["run", "baseline=-1"], ["baseline=-1", "true or false"]),
    (["run", f"dry_run={BIG}"], [f"dry_run={BIG}", "true or false"]),
    (["run", f"seed={BIG}"], [f"seed={BIG}"]),
    (["run", "decoding.temperature=1e-38", "decoding.search=sample"], ["decoding.temperature=1e-38", "from 0.0001"]),
    (["run", "decoding.temperature=inf"], ["decoding.temperature=inf"]),
    (["run", "decoding.num_beams=100000", "decoding.search=beam"], ["decoding.num_beams=100000", "to 1024"]),
    (["run", "tracking.timeout=nan"], ["tracking.timeout=nan"]),
    (["bench", f"bench.lengths=[{BIG}]"], ["bench.lengths", "prompt tokens"]),
    (["bench", "bench.budget_s=nan"], ["bench.budget_s=nan"]),
    (["run", "part=0/99999999999999"], ["part=0/99999999999999", "up to 100000"]),
    (["run", "shard=3/200000"], ["shard=3/200000", "up to 100000"]),
    (["run", "-m", "seed=range(0,1000000000)"], ["seed=range(0,1000000000)", "more than 100000 values"]),
    (["run", "-m", f"jobs={BIG}"], [f"jobs={BIG}", "to 100000"]),
    (["status", "--watch", "-1"], ["--watch=-1", "from 0.1 to 86400", "seconds"]),
    (["status", "--watch", "nan"], ["--watch=nan"]),
    (["gate", "--baseline", "results/reference", "--slower", "inf"], ["--slower=inf"]),
    (["compare", "a", "b", "--margin", "nan"], ["--margin=nan"]),
]
TARGETS = [
    (["run", "method.dense._target_=os.system"], ["'os.system' is no method", "harness.contracts.method.Method"]),
    (["run", "task.passkey._target_=os.system"], ["'os.system' is no task", "harness.contracts.task.Task"]),
    (["run", "model.micro-lm._target_=os.system"], ["'os.system' is no model", "ModelSpec"]),
    (["run", "+method.x={_target_: subprocess.Popen, args: ls}"], ["'subprocess.Popen' is no method"]),
    (["run", "+method.x={_target_: tasks.passkey.Passkey}"], ["'tasks.passkey.Passkey' is no method"]),
    (["run", "task.passkey._target_=methods.dense.Dense"], ["'methods.dense.Dense' is no task"]),
    (["run", "method.dense._target_=numpy.zeros"], ["'numpy.zeros' is no method"]),
    (
        [*IMAGES, "method=iri", "+method.iri.calibrate_on={_target_: methods.dense.Dense}"],
        ["'methods.dense.Dense' is no task"],
    ),
]
HYDRA = [
    (["run", "method=[1,2]"], ["method=[1,2]: method takes names", "method=[a,b]", "quest"]),
    (["run", "task=[1,2]"], ["task=[1,2]: task takes names", "passkey"]),
    (["run", "method=[[power]]"], ["method takes names"]),
    (["run", "preset={a:1}"], ["preset={a:1}: preset takes one name", "Known: ci"]),
    (["run", "preset=null"], ["preset=null: preset takes one name"]),
    (["run", "hydra=5"], ["hydra=5", "one by one"]),
    (["run", "published=5"], ["published=5 is no table of published numbers"]),
    (["run", "=3"], ["'=3' names no key"]),
    (["run", "power"], ["'power' cannot be read: it has no '='"]),
    (["run", "method=[power", "task=passkey"], ["'method=[power' cannot be read", "a '[' and a ']' belong together"]),
    (["run", "task.passkey.essay_path=a=b"], ["cannot be read", "\"task.passkey.essay_path='a=b'\""]),
    (["run", "+method.a b={_target_: x}"], ["'+method.a b' is no key"]),
    (["run", "limit=x"], ["limit=x does not fit: it must be a whole number or null"]),
    (["run", "limit=1.5"], ["limit=1.5 does not fit"]),
    (["run", "seed=null"], ["seed=null does not fit: it must be a whole number"]),
    (["run", "baseline=maybe"], ["baseline=maybe does not fit: it must be true or false"]),
    (["run", "decoding.temperature=abc"], ["decoding.temperature=abc does not fit: it must be a number"]),
    (["run", "decoding=5"], ["decoding=5 does not fit", "decoding.search=value", "num_beams"]),
    (["run", "tracking=[1]"], ["tracking=[1] does not fit", "tracking.mode=value"]),
    (["run", "tracking={a:1}"], ["a key in it is unknown", "tracking.mode=value"]),
    (
        ["run", "method=power", "method.power.full_layers={a:1}"],
        ["method.power.full_layers={a:1} does not fit: it must be a list"],
    ),
    (["run", "method=power", "method.power=5"], ["method.power=5 does not fit", "method.power.key=value"]),
    (["run", "method=power", "method.power=[1]"], ["method.power=[1] does not fit", "window_blocks"]),
    (["run", "model.micro-lm=3"], ["model.micro-lm=3 does not fit"]),
    (["run", "task.passkey.lengths=${nope}"], ["task.passkey.lengths=${nope}: there is no 'nope' to refer to"]),
    (["run", "~seed"], ["~seed", "cannot be removed"]),
    (["run", "~method.power"], ["nothing to remove at 'method.power'"]),
    (["run", "++seed=3"], ["write seed=3 without a plus"]),
    (["run", "task=lm_eval", "task.lm_eval.tasks=hellaswag"], ["for example task.lm_eval.tasks=[hellaswag]"]),
    (["run", "task=ruler", "task.ruler.lengths=512"], ["for example task.ruler.lengths=[512]"]),
]
HINTS = [
    (["run", "model.dtype=bf16"], ["did you mean model.micro-lm.dtype?"]),
    (["run", "dtype=bfloat16"], ["did you mean model.micro-lm.dtype"]),
    (["run", "device=cuda"], ["did you mean model.micro-lm.device"]),
    (["run", "num_fewshot=3"], ["did you mean task.lm_eval.num_fewshot (with task=[lm_eval])?"]),
    (["run", "task=lm_eval", "num_fewshot=3"], ["did you mean task.lm_eval.num_fewshot?"]),
    (["run", "temperature=1"], ["did you mean decoding.temperature"]),
    (["run", "method=power", "window_blocks=3"], ["did you mean method.power.window_blocks"]),
    (["run", "method=power", "power.window_blocks=3"], ["did you mean method.power.window_blocks?"]),
]
TEXT = [
    (["run", "+method.\udc80=${method.dense}"], ["no UTF-8"]),
    (["run", "-m", "+method.\udc80=${method.dense}", "seed=0,1"], ["no UTF-8"]),
    (["run", "model=./\udc80x"], ["no UTF-8"]),
    (["run", "results="], ["results= names no folder"]),
]
FORBIDDEN = ("Traceback", "Exception", "DictConfig", "ListConfig", "NoneType", "Integer", "viable", "mismatched", "\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [*DEPTH, *BLOCKS, *NUMBERS, *TARGETS, *HYDRA, *HINTS, *TEXT],
    ids=lambda x: " ".join(x)[:70].encode(errors="replace").decode(),
)
def test_a_wrong_option_is_one_paragraph_that_names_it(args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = "torch" in sys.modules
    assert main(args) == 2
    text = capsys.readouterr().err.strip()
    assert all(part in text for part in says), text
    assert text.startswith("heed: ") and not any(part in text for part in FORBIDDEN), text
    assert ("torch" in sys.modules) == before and not any(tmp_path.iterdir())


def test_they_are_answered_in_about_a_second_and_without_torch():
    code = "import sys; from harness.cli import main; c = main(); sys.exit(99 if 'torch' in sys.modules else c)"
    for args in (
        ["run", "method=power", f"method.power.block_size={BIG}"],
        ["run", "method=[1,2]"],
        ["run", "device=cuda"],
    ):
        start = time.process_time()
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2, done.stderr
        assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("until: 5", "until: 5"),
        ("until: [a, 5]", "until: ['a', 5]"),
        ("max_gen_toks: many", "max_gen_toks: many"),
        ("max_gen_toks: 0", "max_gen_toks: 0"),
        ("temperature: hot", "temperature: hot"),
    ],
)
def test_what_lm_eval_generates_with_is_checked(given, says):
    import yaml

    from harness.errors import UserError
    from tasks.lm_eval.build import generation

    with pytest.raises(UserError, match=r"task\.lm_eval\.gen_kwargs") as error:
        generation("x", yaml.safe_load(given))
    assert says in str(error.value)


def test_a_hub_that_cannot_be_reached_is_said_at_once_and_with_what_was_written(tmp_path: Path):
    """A port where nobody listens stands for the missing network; the library alone would try for 24 seconds."""
    own = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
    }
    start = time.monotonic()
    command = [
        sys.executable,
        "-c",
        "from harness.cli import main; raise SystemExit(main())",
        "run",
        "model=someone/something",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | own)
    assert done.returncode == 2 and time.monotonic() - start < 15
    assert "Retrying" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "'someone/something' cannot be fetched" in done.stderr and "model=./FOLDER" in done.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ["run"],
        ["status"],
        ["report"],
        ["claims"],
        ["compare", "a", "b"],
        ["export", "--format", "lm-eval", "--out", "x"],
    ],
)
def test_every_verb_takes_the_results_folder_in_both_spellings(verb):
    from harness.cli import _parsed

    folders = []
    for words in (["results=some/where"], ["--results", "some/where"], ["--results=some/where"]):
        args = _parsed([*verb, *words])
        told = [o.removeprefix("results=") for o in getattr(args, "overrides", ())] or getattr(args, "results", None)
        folders.append(told if isinstance(told, str) else told[0])
    assert folders == ["some/where"] * 3
    assert _parsed(["gate", "--baseline", "b", "results=c"]).candidate == "c"
