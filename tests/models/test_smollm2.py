"""The pretrained model as second witness: what the harness answers on it is what code without the harness answers.

Runs where the package that ships the model is installed (`heed doctor` says how). The witness is read straight from the
GGUF file, by transformers alone; nothing of the harness computes what is expected here.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from harness.config.compose import compose
from harness.models import packaged
from harness.models.load import ModelSpec
from harness.models.tokens import TextTokens
from harness.plan.cells import Cell, cells
from harness.running.run import RunSettings, execute
from methods.cache import kvpress_library
from zoo.material.text import words

NAME = "smollm2-135m"
GGUF = packaged.shipped(NAME) if importlib.util.find_spec("gguf") else None
pytestmark = [pytest.mark.slow, pytest.mark.skipif(GGUF is None, reason=packaged.MEMBERS[NAME].install)]

BUDGET, PAGE, NEW = 256, 16, 13
STOP = 2  # <|im_end|>
PASSKEY = ["task=[passkey]", "task.passkey.lengths=[512]", "task.passkey.depths=[20,80]", "task.passkey.trials=2"]
METHODS = [
    "method=[snapkv,quest]", f"method.snapkv.capacity={BUDGET}", "method.snapkv.window=32", "method.snapkv.kernel=5",
    f"method.quest.budget={BUDGET}", f"method.quest.page={PAGE}", "method.quest.dense_layers=2",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that two processes want at once: one of them converts, the other waits."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEED_MODELS", str(root))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        left = packaged.place(NAME).with_name(f".{packaged.place(NAME).name}.part")
        left.mkdir(parents=True)  # by a process that was killed
        (left / "model.safetensors").write_text("half of it")
        code = f"from harness.models import packaged; print(packaged.folder({NAME!r}))"
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
            )
            for _ in range(2)
        ]
        told = [process.communicate() for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        assert sum("once" in error for _, error in told) == 1  # who converts says so
        assert {name.strip() for name, _ in told} == {str(packaged.place(NAME))}
        yield packaged.place(NAME)


@pytest.fixture(scope="module")
def witness() -> Any:
    """transformers' own reading of the file."""
    assert GGUF is not None
    model = AutoModelForCausalLM.from_pretrained(str(GGUF.parent), gguf_file=GGUF.name, dtype=torch.float32)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def tokens(folder: Path) -> TextTokens:
    return ModelSpec(path=NAME).tokens()


@pytest.fixture(scope="module")
def rows(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """method -> samples of a small passkey run."""
    root = tmp_path_factory.mktemp("results")
    return {c.method_label: samples(root, c) for c in run(root, *METHODS, *PASSKEY)}


def run(root: Path, *overrides: str) -> list[Cell]:
    plan = cells(compose([f"model={NAME}", f"model.{NAME}.device=cpu", *overrides]))
    outcomes = execute(plan, RunSettings(root, efficiency="off"))
    assert [o.status for o in outcomes] == ["done"] * len(plan), [o.reason for o in outcomes]
    return plan


def samples(root: Path, cell: Cell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs" / cell.run_id / "samples.jsonl").read_text().splitlines()]


def prompts(tokens: TextTokens) -> dict[str, list[int]]:
    """id -> token ids, by the tokenizer's own template and a plain concatenation."""
    from tasks.passkey import Passkey

    found = {}
    for example in Passkey(lengths=[512], depths=[20, 80], trials=2).examples(tokens):
        asked = [{"role": "user", "content": example.question.prompt}]  # type: ignore[union-attr]
        text = tokens.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        ids = tokens.tokenizer(text + " The pass key is", add_special_tokens=False)["input_ids"]
        found[example.id] = list(ids)
    return found


def test_the_folder_is_whole_and_nothing_is_left_beside_it(folder: Path) -> None:
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, "cache"}
    assert packaged.ready(NAME) and ModelSpec(path=NAME).identity()["template"] == "chat"


def test_the_converted_weights_are_those_of_the_file(folder: Path, witness: Any) -> None:
    ours = ModelSpec(path=NAME, device="cpu").load()
    theirs = witness.state_dict()
    assert ours.model.state_dict().keys() == theirs.keys() and ours.max_positions == 8192
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.model.state_dict().items())


def test_digits_are_split_one_by_one(tokens: TextTokens) -> None:
    """GPT-2's pre-tokenizer, which transformers takes for the file's, would join `198` and `768`."""
    expected = {
        "The year 1987": [504, 713, 216, 33, 41, 40, 39], "3,768": [35, 28, 39, 38, 40], " 42": [216, 36, 34],
        "x12y": [104, 33, 34, 105],
    }  # fmt: skip
    for text, ids in expected.items():
        assert tokens.encode(text) == ids and tokens.decode(ids) == text
    digits = {str(d): tokens.encode(str(d)) for d in range(10)}
    assert all(len(ids) == 1 for ids in digits.values())
    assert tokens.encode("0123456789") == [digits[str(d)][0] for d in range(10)]


def test_it_speaks_with_its_template(tokens: TextTokens, witness: Any) -> None:
    ids = torch.tensor([tokens.prompt_ids("What is the capital of France?")])
    answer = tokens.decode(witness.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist())
    assert "Paris" in answer
    assert tokens.prompt_text("Hi").endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_perplexity_is_that_of_ten_lines(tokens: TextTokens, witness: Any, tmp_path: Path) -> None:
    overrides = ["window=256", "stride=128", "max_tokens=512"]
    (cell,) = run(tmp_path, "task=[perplexity]", *(f"task.perplexity.{text}" for text in overrides))
    ids, total, count = tokens.encode(words.essay())[:512], 0.0, 0
    for begin in range(0, 512 - 255, 128):
        window = torch.tensor(ids[begin : begin + 256])
        new = 255 if begin == 0 else 128
        logits = witness(window[None]).logits[0].log_softmax(-1)
        total -= float(logits[-new - 1 : -1].gather(1, window[-new:, None]).double().sum())
        count += new
    stored = json.loads((tmp_path / "runs" / cell.run_id / "metrics.json").read_text())
    assert stored["values"]["ppl"]["value"] == pytest.approx(math.exp(total / count), rel=1e-6)
    assert count == 511


def test_passkey_answers_are_those_of_bare_generate(
    rows: dict[str, list[dict[str, Any]]], tokens: TextTokens, witness: Any
) -> None:
    asked = prompts(tokens)
    for row in rows["dense"]:
        ids = torch.tensor([asked[row["id"]]])
        assert row["n_prompt_tokens"] == ids.shape[1]
        out = witness.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
        assert row["text"] == tokens.decode(out.tolist())
    assert (
        sum(row["metrics"]["accuracy"] for row in rows["dense"]) >= 3
    )  # the question is asked as the model learned it


def test_quest_answers_are_those_of_a_few_lines(
    rows: dict[str, list[dict[str, Any]]], tokens: TextTokens, witness: Any
) -> None:
    AttentionInterface.register("heed_test_quest", quest)
    AttentionMaskInterface.register("heed_test_quest", sdpa_mask)
    asked = prompts(tokens)
    witness.set_attn_implementation("heed_test_quest")
    try:
        for row in rows["quest"]:
            ids = torch.tensor([asked[row["id"]]])
            out = witness.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
            assert row["text"] == tokens.decode(out.tolist())
    finally:
        witness.set_attn_implementation("sdpa")


def quest(module: Any, q: Any, k: Any, v: Any, attention_mask: Any, **kwargs: Any) -> Any:
    """Every decode step of layers 2 and up reads the pages with the largest bound (Quest, arXiv 2406.10774)."""
    if q.shape[2] > 1 or module.layer_idx < 2:
        return sdpa_attention_forward(module, q, k, v, attention_mask, **kwargs)
    n, heads = k.shape[2], []
    for h in range(q.shape[1]):
        query, keys, values = q[0, h, 0], k[0, h // 3], v[0, h // 3]  # three query heads for each key head
        pages = [range(i, min(i + PAGE, n)) for i in range(0, n, PAGE)]
        bounds = [torch.maximum(query * keys[p].amin(0), query * keys[p].amax(0)).sum() for p in map(list, pages)]
        best = torch.stack(bounds).topk(max(3, min(n, BUDGET) // PAGE)).indices.tolist()
        columns = sorted(c for i in best for c in pages[i])
        weights = (keys[columns] @ query * kwargs["scaling"]).softmax(0)
        heads.append(weights @ values[columns])
    return torch.stack(heads)[None, None], None


@pytest.mark.skipif(importlib.util.find_spec("kvpress") is None, reason="kvpress is not installed")
def test_snapkv_answers_are_those_of_kvpress(
    rows: dict[str, list[dict[str, Any]]], tokens: TextTokens, witness: Any
) -> None:
    made = kvpress_library.load("kvpress.presses.snapkv_press").SnapKVPress
    asked = prompts(tokens)
    handles = [
        m.self_attn.register_forward_pre_hook(_add_cache_position, with_kwargs=True) for m in witness.model.layers
    ]
    for row in rows["snapkv"]:
        ids, cache, new = torch.tensor([asked[row["id"]]]), DynamicCache(), []
        n = ids.shape[1]
        with made(window_size=32, kernel_size=5, compression_ratio=1 - (BUDGET + 0.5) / n)(witness):
            token = witness(ids, past_key_values=cache, use_cache=True).logits[0, -1].argmax()
        assert cache.get_seq_length() == BUDGET
        while len(new) < NEW and int(token) != STOP:
            new.append(int(token))
            at = torch.tensor([[n + len(new) - 1]])
            token = witness(token[None, None], past_key_values=cache, position_ids=at).logits[0, -1].argmax()
        assert row["text"] == tokens.decode(new)
    for handle in handles:
        handle.remove()


def _add_cache_position(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What kvpress reads and transformers no longer passes."""
    return args, kwargs | {"cache_position": kwargs["position_ids"][0]}
