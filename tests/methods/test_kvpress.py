"""Presses of kvpress: the properties of every method, the library's own run as a reference, and our native methods."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.asking import cache_bytes
from harness.asking.generation import generate
from harness.attention import apart
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.config.compose import compose
from harness.errors import NotEngaged, Unsupported, UserError
from harness.identity.run_id import extension_identity
from harness.models.inputs import Sample, of_ids
from harness.models.view import View
from harness.plan.cells import cells
from harness.running.run import RunSettings, execute
from methods.cache import kvpress_library as library
from methods.cache.kept_columns import columns
from methods.cache.kvpress import KVPress, prototype
from methods.cache.snapkv import SnapKV
from methods.cache.streaming_kv import StreamingKV
from tests import tiny
from tests.matrix import PROMPT, Case
from tests.methods import test_matrix as matrix
from tests.models.small import save
from tests.models.small import view as small_view

if importlib.util.find_spec("kvpress") is None:
    pytest.skip(f"the extra is not installed: {library.INSTALL}", allow_module_level=True)

CLOSE = {"rtol": 1e-3, "atol": 1e-3}  # the library keeps keys in the order of their scores, and so sums in another one
FAMILIES = ("llama", "qwen2", "qwen3", "phi3")
NAMED = {"press": "KnormPress"}


@dataclass(frozen=True)
class Row:
    """A press and what it keeps: `kept` keys of a prompt of 90 in each layer; None: see its own test."""

    press: str
    kwargs: Any = None
    ratio: float | None = 0.5
    kept: tuple[int, int, int] | None = (45, 45, 45)
    drawn: bool = False  # uses random numbers, which the library takes from the global generator
    hides: bool = False  # head-wise

    @property
    def method(self) -> KVPress:
        return KVPress(press=self.press, kwargs=self.kwargs, compression_ratio=self.ratio)

    def __str__(self) -> str:
        return self.press.removesuffix("Press")


KNORM = {"name": "KnormPress", "compression_ratio": 0.5}
EACH_STEP = {"base_press": "KeyDiffPress", "compression_interval": 1}
ROWS = (
    Row("SnapKVPress", {"window_size": 4}),
    Row("KnormPress"),
    Row("TOVAPress"),
    Row("ExpectedAttentionPress"),
    Row("StreamingLLMPress"),
    Row("PyramidKVPress", {"window_size": 4, "beta": 5}, 0.7, (49, 27, 5)),
    Row("KeyDiffPress"),
    Row("LagKVPress", {"lag_size": 16}),
    Row("CURPress"),
    Row("CapPress"),
    Row("CompactorPress", drawn=True),
    Row("LeverageScorePress", drawn=True),
    Row("NonCausalAttnPress"),
    Row("RandomPress", drawn=True),
    Row("CriticalKVPress", NAMED),
    Row("ChunkKVPress", NAMED | {"chunk_length": 8}, kept=None),
    Row("ChunkPress", NAMED | {"chunk_length": 30}),
    Row("BlockPress", {"press": "KeyDiffPress", "block_size": 16}),
    Row("MergingPress", NAMED),
    Row("KeyRerotationPress", {"press": "StreamingLLMPress"}),
    Row("AdaKVPress", {"press": {"name": "SnapKVPress", "window_size": 4}}, kept=(90, 90, 90), hides=True),
    Row("CriticalAdaKVPress", NAMED, kept=(90, 90, 90), hides=True),
    Row("SimLayerKVPress", {"lazy_threshold": 0.1, "n_recent": 12}, None, None),
    Row("PerLayerCompressionPress", NAMED | {"compression_ratios": [0.2, 0.5, 0.0]}, None, (72, 45, 90)),
    Row("ComposedPress", {"presses": [KNORM, KNORM | {"name": "KeyDiffPress"}]}, None, (22, 22, 22)),
    Row("PrefillDecodingPress", {"prefilling_press": KNORM}, None),
    Row(
        "DMSPress",
        {"press": "KeyDiffPress", "threshold": -0.2, "sliding_window_size": 8},
        None,
        (90, 90, 90),
        hides=True,
    ),
    Row("DecodingPress", EACH_STEP | {"target_size": 40}, None, (90, 90, 90)),
    Row("CompressionRatioDecodingPress", EACH_STEP, None, (90, 90, 90)),
    Row("CAMPress", EACH_STEP | {"target_size": 40}, None, (90, 90, 90), drawn=True),
)
WIDE = (
    "SnapKVPress",
    "ExpectedAttentionPress",
    "CompactorPress",
    "CriticalKVPress",
    "KeyRerotationPress",
    "AdaKVPress",
)
PAIRS = [(row, family) for family in FAMILIES for row in ROWS if family == "llama" or row.press in WIDE]
every_press = pytest.mark.parametrize("row", ROWS, ids=str)
some_families = pytest.mark.parametrize("family", FAMILIES)
CASES = {str(row): Case(row.method, replace(row.method, compression_ratio=0.0)) for row in ROWS if row.ratio}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def prompt(seed: int = 1) -> tuple[Tensor, Tensor]:
    return tiny.ids(PROMPT, seed=seed), tiny.ids(4, seed=seed + 100)


def test_every_press_that_can_be_served_has_a_row() -> None:
    assert {row.press for row in ROWS} == set(library.modules()) - set(library.REFUSED)


# -- what holds for every method: see test_matrix.py ------------------------------------------------------------------


@pytest.mark.parametrize(("row", "family"), PAIRS, ids=str)
def test_it_is_engaged_and_keeps_what_it_says(row: Row, family: str) -> None:
    view, (ids, _) = tiny.view(family), prompt()
    proof = prove(view, row.method, ids)
    assert proof["logits_moved"] > 0.01 and proof["restored"] and proof["density_prefill"] == 1
    assert proof["density_decode"] < 1 and 0 < proof["method_kept"] < 1 and not proof["simulated"]
    with attach(view, row.method) as attached:
        cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
        kept = attached.counted([0])[0].held
    held = [layer.keys.shape[2] for layer in cache.layers]
    assert [kept[i].keys for i in range(3)] == held and (row.kept is None or tuple(held) == row.kept)
    for layer in cache.layers:  # true positions, in order, and the next token comes after the prompt
        assert layer.get_seq_length() == PROMPT
        if layer.positions is not None:
            assert (layer.positions.diff(dim=-1) > 0).all() and layer.positions.max() < PROMPT


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ratio_0_equals_dense_and_is_reported(case: Case) -> None:
    matrix.test_the_identity_setting_equals_dense(case, "llama")
    with pytest.raises(NotEngaged, match="compression_ratio 0 drops nothing"):
        prove(tiny.view("llama"), case.equals_dense, prompt()[0])


@every_press
def test_the_prompt_is_causal_and_the_model_restored(row: Row) -> None:
    case = Case(row.method, row.method)
    matrix.test_changing_the_last_token_leaves_earlier_logits(case, "llama")
    matrix.test_the_model_is_restored_after_an_exception(case, "llama")


@pytest.mark.slow
@every_press
def test_generating_equals_the_forwards_it_is_made_of_in_any_order(row: Row) -> None:
    case = Case(row.method, row.method)
    matrix.test_generate_equals_the_forwards_it_is_made_of(case, "llama")
    matrix.test_requests_do_not_depend_on_each_other(case, "llama")


@pytest.mark.slow
@every_press
def test_a_batch_gives_what_each_sample_gives_alone_or_is_refused(row: Row) -> None:
    view, ids, steps = tiny.view("llama"), tiny.ids(PROMPT, 2, 1), tiny.ids(4, 2, 101)
    alone = [matrix.run(view, row.method, ids[b : b + 1], steps[b : b + 1]) for b in range(2)]
    if row.method.batching == "one":
        with pytest.raises(UserError, match="one prompt at a time"):
            matrix.run(view, row.method, ids, steps)
    else:
        torch.testing.assert_close(matrix.run(view, row.method, ids, steps), torch.cat(alone), **matrix.CLOSE)


def test_pieces_padding_and_beams_are_refused() -> None:
    case = Case(KVPress(press="KnormPress"), KVPress())
    matrix.test_a_prompt_in_pieces_equals_one_piece_or_is_refused(case, "llama")
    matrix.test_padding_is_refused_where_lengths_must_be_equal(case)
    assert "beam" not in KVPress.search


def test_nothing_is_left_on_the_model_or_in_the_process() -> None:
    view, (ids, steps) = tiny.view("llama"), prompt()
    modules = [view.attention(i) for i in range(view.n_layers)]
    before = [(set(vars(m)), set(m._modules), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules]
    drawn = torch.get_rng_state()
    for row in ROWS:
        matrix.run(view, row.method, ids, steps)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert before == [
        (set(vars(m)), set(m._modules), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules
    ]
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward and "kvpress" not in sys.modules


@pytest.mark.parametrize("inside", [False, True])
def test_what_a_press_remembers_is_counted_as_memory(inside: bool) -> None:
    view, (ids, steps) = tiny.view("llama"), prompt()
    wait = {"name": "DecodingPress", "base_press": "KnormPress", "compression_interval": 3, "target_size": 40}
    outer = {"press": "PrefillDecodingPress", "kwargs": {"prefilling_press": KNORM, "decoding_press": wait}}
    alone = {"press": wait["name"], "kwargs": {k: v for k, v in wait.items() if k != "name"}}
    with attach(view, KVPress(compression_ratio=None, **(outer if inside else alone))) as attached:
        cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
        for s in range(2):
            view.model(steps[:, s : s + 1], past_key_values=cache)
    keys_and_values = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    hidden = 3 * 2 * 64 * 4  # layers, steps, width, bytes
    assert cache_bytes.logical(cache, [PROMPT + 2]) == [keys_and_values + hidden]
    assert cache_bytes.physical(cache) >= keys_and_values + hidden


# -- the library's own run --------------------------------------------------------------------------------------------


def published(row: Row, family: str, ids: Tensor, steps: Tensor) -> Tensor:
    """Logits `[1, 1 + n, V]` of the library as it is published, on its own hooks and the stock cache, with the shim that
    makes it run: `cache_position` for every attention module.
    """
    view, press = tiny.fresh_view(family), prototype(row.method)
    if row.hides:
        patch = library.load("kvpress.attention_patch").attention_patch
        AttentionInterface.register("heed_test_patched", patch(sdpa_attention_forward))
        AttentionMaskInterface.register("heed_test_patched", sdpa_mask)
        view.set_attn("heed_test_patched")
    for module in map(view.attention, range(view.n_layers)):
        module.register_forward_pre_hook(_add_cache_position, with_kwargs=True)
    cache, rows = DynamicCache(), []
    with press(view.model):
        rows.append(view.model(ids, past_key_values=cache, use_cache=True).logits[:, -1:])
        first = cache.get_seq_length() if row.press == library.ROTATES else PROMPT  # as its pipeline goes on counting
        for s in range(steps.shape[1]):
            at = torch.tensor([[first + s]])
            rows.append(view.model(steps[:, s : s + 1], past_key_values=cache, position_ids=at).logits)
    return torch.cat(rows, dim=1)


def _add_cache_position(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    return args, kwargs | {"cache_position": kwargs["position_ids"][0]}


@pytest.mark.parametrize("row", [row for row in ROWS if row.press in ("SnapKVPress", "KnormPress")], ids=str)
def test_a_question_after_the_context_reads_what_it_reads_in_the_librarys_pipeline(row: Row) -> None:
    """Its benchmark presses the context alone; then the question is one forward there, and token by token here."""
    ids, asked = prompt()
    view, cache = tiny.fresh_view("llama"), DynamicCache()
    for module in map(view.attention, range(view.n_layers)):
        module.register_forward_pre_hook(_add_cache_position, with_kwargs=True)
    with prototype(row.method)(view.model):
        view.model(ids, past_key_values=cache, use_cache=True)
    at = torch.arange(PROMPT, PROMPT + asked.shape[1])[None]
    expected = view.model(asked, past_key_values=cache, position_ids=at).logits[:, -1]
    view = tiny.view("llama")
    sample = Sample(tuple(torch.cat((ids, asked), dim=1)[0].tolist()), context=PROMPT)
    with attach(view, replace(row.method, question="decode")) as attached:
        inputs = attached.begin(replace(of_ids(torch.cat((ids, asked), dim=1)), samples=(sample,)))
        kept = apart.read(view, inputs, attached.new_cache())
        ours = view.model(inputs.ids[:, -1:], past_key_values=kept).logits[:, -1]
    torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize(("row", "family"), [pair for pair in PAIRS if not pair[0].drawn], ids=str)
def test_answers_are_those_of_the_library_itself(row: Row, family: str) -> None:
    ids, steps = prompt()
    ours = matrix.run(tiny.view(family), row.method, ids, steps)
    torch.testing.assert_close(ours, published(row, family, ids, steps), **CLOSE)


@pytest.mark.parametrize("row", [row for row in ROWS if row.drawn], ids=str)
def test_random_numbers_depend_on_the_prompt_and_the_layer_alone(row: Row) -> None:
    view, seen = tiny.view("llama"), []
    for seed, prompt_seed in ((1, 1), (2, 1), (1, 2)):
        torch.manual_seed(seed)
        ids, steps = prompt(prompt_seed)
        with attach(view, row.method) as attached:
            cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
            view.model(steps[:, :1], past_key_values=cache)
        seen.append([layer.positions for layer in cache.layers])
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[0], seen[2], strict=True))


# -- our own methods --------------------------------------------------------------------------------------------------


def compressed(view: View, method: Any, ids: Tensor) -> list[Tensor]:
    """Positions `[1, H_kv, n]` that stay in every layer after the prompt."""
    with attach(view, method) as attached:
        cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
    return [layer.positions for layer in cache.layers]


@some_families
@pytest.mark.parametrize(("window", "kernel"), [(4, 5), (16, 7)])
def test_snapkv_and_its_press_keep_the_same_keys(family: str, window: int, kernel: int) -> None:
    """Average pooling and shared groups; the mean over the window that the press takes orders keys as our sum does."""
    view, (ids, steps) = tiny.view(family), prompt()
    native = SnapKV(window=window, capacity=30, kernel=kernel)
    press = KVPress(compression_ratio=1 - 30.5 / PROMPT, kwargs={"window_size": window, "kernel_size": kernel})
    for ours, theirs in zip(compressed(view, native, ids), compressed(view, press, ids), strict=True):
        assert torch.equal(ours, theirs) and ours.shape[-1] == 30
    assert torch.equal(matrix.run(view, native, ids, steps), matrix.run(view, press, ids, steps))


def test_snapkv_and_its_press_write_the_same_answer() -> None:
    view = small_view("llama", max_position_embeddings=4096)
    ids = [torch.randint(3, 200, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (120, 120)]
    answers = []
    for method in (SnapKV(window=8, capacity=40), KVPress(compression_ratio=1 - 40.5 / 120, kwargs={"window_size": 8})):
        with attach(view, method) as attached:
            answers.append([g.ids for g in generate(view, ids, [12, 12], attached)])
    assert answers[0] == answers[1]


@some_families
def test_streaming_kv_and_the_rerotating_press_agree_until_the_window_rolls(family: str) -> None:
    """After the prompt both hold the sinks next to the last keys. The press then lets the cache grow, our method rolls on;
    the plain press leaves the sinks at their distance, which is another method.
    """
    view, (ids, steps) = tiny.view(family), prompt()
    native = matrix.run(view, StreamingKV(sinks=4, recent=41), ids, steps)[:, :2]
    rerotated = KVPress(press="KeyRerotationPress", kwargs={"press": "StreamingLLMPress"})
    plain = KVPress(press="StreamingLLMPress")
    torch.testing.assert_close(matrix.run(view, rerotated, ids, steps)[:, :2], native, **CLOSE)
    assert float((matrix.run(view, plain, ids, steps)[:, 1] - native[:, 1]).abs().max()) > 0.01
    assert [p[0, 0].tolist() for p in compressed(view, plain, ids)] == [[0, 1, 2, 3, *range(49, 90)]] * 3


def test_a_pyramid_keeps_more_below_and_the_report_is_the_mean() -> None:
    view, row = tiny.view("llama"), next(r for r in ROWS if r.press == "PyramidKVPress")
    with attach(view, row.method) as attached:
        view.model(prompt()[0], past_key_values=attached.new_cache(), use_cache=True)
    assert attached.report()["kv_tokens_kept"] == sum(row.kept or ()) / 3


# -- which columns were kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_kept_columns_are_found_by_their_bits(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(1, 3, 50, 8, generator=draw).to(dtype) for _ in range(2))
    values[:, :, 10:20] = values[:, :, 20:30]  # one token in several places
    index = torch.stack([torch.randperm(50, generator=draw)[:17] for _ in range(3)])
    left = [x.gather(2, index[None, :, :, None].expand(1, 3, 17, 8)) for x in (keys, values)]
    found = columns((keys, values), left)
    assert found is not None and torch.equal(found, index)
    assert columns((keys, values), (left[0], -left[1])) is None


def test_equal_rows_are_each_used_once() -> None:
    keys = torch.zeros(1, 1, 4, 2)
    keys[0, 0, 2] = 1
    found = columns((keys,), (keys[:, :, [3, 2, 0]],))
    assert found is not None and found.tolist() == [[0, 2, 1]]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("press", library.REFUSED)
def test_presses_that_cannot_be_served_are_refused_with_the_reason(press: str) -> None:
    for method in (KVPress(press=press), KVPress(press="AdaKVPress", kwargs={"press": press})):
        with pytest.raises(UserError, match=f"{press} cannot be served: it "):
            method.validate()


WRONG = (
    (KVPress(press="SnapKvPress"), "did you mean 'SnapKVPress'"),
    (KVPress(press=""), "names no press"),
    (KVPress(press="AdaKVPress", kwargs={"press": {"name": "KNormPress"}}), "did you mean 'KnormPress'"),
    (KVPress(press="AdaKVPress", kwargs={"press": {"window_size": 3}}), "names no press"),
    (KVPress(press="AdaKVPress"), "missing 1 required positional argument: 'press'"),
    (KVPress(kwargs={"window": 3}), "did you mean 'window_size'"),
    (KVPress(kwargs={"compression_ratio": 0.3}), "an option of its own"),
    (KVPress(compression_ratio=1.0), r"in \[0, 1\)"),
    (KVPress(compression_ratio=None), "needs one"),
    (KVPress(press="SimLayerKVPress"), "Set it to null"),
    (KVPress(press="ComposedPress", kwargs={"presses": ["KnormPress"]}), "Set it to null"),
    (KVPress(press="ChunkKVPress", kwargs={"press": {"name": "ChunkPress", "press": "KnormPress"}}), "ScorerPress as input"),
    (KVPress(press="ComposedPress", kwargs={"presses": ["KeyRerotationPress"]}), "no other press can wrap it"),
    (KVPress(press="DMSPress", kwargs=NAMED, compression_ratio=None), "threshold is missing"),
    (KVPress(question="before"), "it is 'prefill' or 'decode'"),  # type: ignore[arg-type]
    (KVPress(version="0.0.1"), "is installed"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_mistake_is_one_paragraph(method: KVPress, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught, attach(tiny.view("llama"), method):
        pass
    assert "\n" not in str(caught.value) and "method.kvpress" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gpt2", "GPT2LMHeadModel"),
        ("gpt_oss", "GptOss"),
        ("gemma3", "Gemma3ForCausalLM"),
        ("mistral", "sliding layers"),
    ],
)
def test_models_that_presses_do_not_know_are_refused(family: str, words: str) -> None:
    with pytest.raises(Unsupported, match=words), attach(tiny.view(family), KVPress()):
        pass


def test_mistral_without_a_window_is_served() -> None:
    view = tiny.fresh_view("mistral", sliding_window=None)
    assert prove(view, KVPress(press="TOVAPress"), prompt()[0])["kv_tokens_kept"] == 47


def test_a_prompt_that_a_press_refuses_says_so() -> None:
    with pytest.raises(
        UserError, match=r"SnapKVPress of kvpress refuses 90 tokens .* greater than the window size 200"
    ):
        matrix.run(tiny.view("llama"), KVPress(kwargs={"window_size": 200}), *prompt())


def test_a_press_that_waits_longer_than_the_proof_says_so() -> None:
    method = KVPress(press="DecodingPress", kwargs={"base_press": "KnormPress"}, compression_ratio=None)
    with pytest.raises(NotEngaged, match=r"after 512 new tokens.*compression_interval"):
        prove(tiny.view("llama"), method, prompt()[0])


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "version", lambda: None)
    monkeypatch.setattr(library, "modules", dict)
    KVPress().validate()  # planning and listing go on
    with (
        pytest.raises(Unsupported, match=r"pip install --no-deps -c constraints.txt kvpress"),
        attach(tiny.view("llama"), KVPress()),
    ):
        pass


# -- runs -------------------------------------------------------------------------------------------------------------

PLANNED = ("task=passkey", "task.passkey.lengths=[300]", "task.passkey.depths=[0,100]", "method=[kvpress]")
VARIANTS = (
    "method.kvpress.kwargs={window_size: 16}",
    "+method.ada=${method.kvpress}", "method.ada.press=AdaKVPress", "method.ada.kwargs={press: KeyDiffPress}",
)  # fmt: skip


def test_a_run_records_what_was_kept(tmp_path: Any) -> None:
    folder = save(tmp_path / "tiny-llama", max_position_embeddings=4096)
    made = cells(compose([f"model={folder}", *PLANNED, *VARIANTS]))
    outcomes = execute(made, RunSettings(tmp_path / "results", efficiency="off"))
    assert [(o.cell.method_label, o.status) for o in outcomes] == [
        (name, "done") for name in ("dense", "kvpress", "ada")
    ], [o.reason for o in outcomes]
    for cell in made[1:]:
        path = tmp_path / "results" / "runs" / cell.run_id
        params = json.loads((path / "config.json").read_text())["identity"]["method"]["params"]
        assert params["question"] == "prefill" and params["version"] == library.version()
        for row in map(json.loads, (path / "samples.jsonl").read_text().splitlines()):
            assert row["usage"]["method_kept"] == pytest.approx(0.5, abs=0.01)
            kept = row["usage"]["kv_tokens_kept"] / row["usage"]["kv_tokens_seen"]
            assert kept == 1 if cell.method_label == "ada" else 0.5 < kept < 0.6
    assert [o.status for o in execute(made, RunSettings(tmp_path / "results", efficiency="off"))] == ["kept"] * 3


def test_a_run_on_the_micro_model(tmp_path: Any) -> None:
    made = cells(compose(["model=micro-lm", *PLANNED, "method.kvpress.press=ExpectedAttentionPress", "limit=2"]))
    outcomes = execute(made, RunSettings(tmp_path, limit=2, efficiency="quick"))
    assert [o.status for o in outcomes] == ["done", "done"], [o.reason for o in outcomes]
    speed = json.loads((tmp_path / "runs" / made[1].run_id / "efficiency.json").read_text())
    assert not speed["simulated"]


def test_what_changes_the_numbers_changes_the_run_id() -> None:
    changes = ("press=KnormPress", "compression_ratio=0.4", "kwargs={window_size: 8}", "version=0.0.0")
    parts = [KVPress(), *(KVPress(**{key: value}) for key, value in (
        ("press", "KnormPress"), ("compression_ratio", 0.4), ("kwargs", {"window_size": 8}), ("version", "0.0.0"),
    ))]  # fmt: skip
    ids = [json.dumps(extension_identity(part), sort_keys=True) for part in parts]
    assert len(set(ids)) == len(changes) + 1
    assert extension_identity(KVPress())["params"]["version"] == library.version()
    assert extension_identity(KVPress(kwargs={})) == extension_identity(KVPress())


def test_a_plan_imports_neither_torch_nor_kvpress() -> None:
    code = (
        "import sys; from methods.cache.kvpress import KVPress; "
        "KVPress(press='AdaKVPress', kwargs={'press': 'SnapKVPress'}).validate(); "
        "sys.exit(any(m.split('.')[0] in ('torch', 'kvpress', 'transformers') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
