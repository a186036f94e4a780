"""OPERA: the score of columns, the penalty, going back, and plain beam search where it must be that."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.errors import UserError
from harness.models.inputs import Inputs, collate, of_ids, sample_of
from harness.models.view import View
from methods.search import opera
from methods.search.opera import LastRow, Opera, Run, column_scores, grown
from tests import tiny, tiny_vlm

VOCABULARY = 32


class Toy(Opera):
    """On a text model, some of whose tokens are said to be an image."""

    needs = frozenset()


WEIGHTLESS = Toy(weight=0.0, threshold=10**6, candidates=VOCABULARY, num_beams=3, length_rule="answer")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def toy(stop: list[int], seed: int = 0) -> View:
    """A text model of 32 words."""
    view = tiny.fresh_view("llama", vocab_size=VOCABULARY, seed=seed)
    view.__dict__["stop_ids"] = stop
    return view


def seen(view: View, length: int = 9, seed: int = 0) -> Inputs:
    """A prompt of which tokens 2 to 5 are said to be an image."""
    ids = tiny.ids(length, 1, seed) % VOCABULARY
    image = torch.zeros_like(ids, dtype=torch.bool)
    image[:, 2:6] = True
    return replace(of_ids(ids), image=image)


def search(view: View, method: Opera, inputs: Inputs, limit: int) -> tuple[list[int], Run]:
    """The answer, and the search that found it."""
    with attach(view, method) as attached:
        attached.begin(inputs)
        run = Run(method, attached.request, limit, view.__dict__["stop_ids"])
        return run.search(), run


def beams(view: View, inputs: Inputs, n: int, limit: int, stop: list[int]) -> list[int]:
    """Plain beam search of the library."""
    out = view.model.generate(
        inputs.ids, attention_mask=inputs.mask, num_beams=n, do_sample=False, max_new_tokens=limit,
        eos_token_id=stop or None, pad_token_id=0,
    )[0, inputs.ids.shape[1] :].tolist()  # fmt: skip
    ends = [i for i, t in enumerate(out) if t in stop]
    return out[: ends[0] + 1] if ends else out


STOPS: tuple[list[int], ...] = ([], [7], [3, 7, 11])


@pytest.mark.parametrize("stop", STOPS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_without_penalty_and_with_all_candidates_it_is_plain_beam_search(stop: list[int], seed: int) -> None:
    view = toy(stop, seed)
    inputs = seen(view, seed=seed)
    assert search(view, WEIGHTLESS, inputs, 14)[0] == beams(view, inputs, 3, 14, stop)


@pytest.mark.parametrize(
    ("rule", "short", "long"), [("release", -0.160, -0.166), ("answer", -0.247, -0.238)], ids=["release", "answer"]
)
def test_a_finished_beam_counts_its_sum_by_its_length(rule: str, short: float, long: float) -> None:
    """A prompt of 45 ids, its picture one of them; 80 tokens at -20 against 100 at -24, a stop id behind each."""
    view = toy([7])
    inputs = replace(of_ids(torch.zeros(1, 45 + 3, dtype=torch.long)), image=(torch.arange(48) < 4)[None])
    with attach(view, Toy(length_rule=rule)) as attached:  # type: ignore[arg-type]
        attached.begin(inputs)
        run = Run(attached.method, attached.request, 512, [7])  # type: ignore[arg-type]
    worth = [run.worth(total, [1] * n + [7]) for total, n in ((-20.0, 80), (-24.0, 100))]
    assert worth == [pytest.approx(short, abs=5e-4), pytest.approx(long, abs=5e-4)]
    assert run.worth(-20.0, [1] * 80) == -20 / (run.counted + 80)  # cut off at the limit: there is no stop id


def test_a_prompt_of_embeddings_counts_as_one_id() -> None:
    counted = {}
    for family in ("llava", "instructblip"):
        view = tiny_vlm.view(family)
        sample = sample_of(view, Draft("a", "what is it?", tuple(tiny_vlm.images(1))))
        request: Any = SimpleNamespace(view=view, inputs=collate(view, [sample]), drafts=[sample.draft])
        counted[family] = (opera.counted_prompt(request), len(sample), sample.ids.count(view.vision.image_token_id))  # type: ignore[union-attr]
    n, ids, image = counted["llava"]
    assert n == ids - image + 1 and counted["instructblip"][0] == 1


def test_with_fewer_candidates_it_is_not_because_scores_are_normalised_over_them() -> None:
    view, few = toy([]), replace(WEIGHTLESS, candidates=3)
    prompts = [seen(view, seed=seed) for seed in range(6)]
    assert any(search(view, few, p, 14)[0] != beams(view, p, 3, 14, []) for p in prompts)


def test_one_candidate_is_greedy_search() -> None:
    view = toy([])
    inputs = seen(view)
    assert search(view, replace(WEIGHTLESS, candidates=1), inputs, 12)[0] == beams(view, inputs, 1, 12, [])


def test_column_scores_are_products_of_scaled_weights_below_them() -> None:
    rows = torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tril()
    products = torch.zeros(1, 0, dtype=torch.float64)
    for i in range(6):
        products = grown(products, rows[None, None, i, : i + 1], 50.0)[:, 0]
    for j in range(6):
        expected = 1e-7 * math.prod(50.0 * float(rows[i, j]) for i in range(j, 6))
        assert float(column_scores(products)[0, j]) == pytest.approx(expected, rel=2e-3, abs=1e-7)
    assert float(column_scores(torch.tensor([[-math.inf, 1e4]]))[0, 0]) == 0
    assert float(column_scores(torch.tensor([[-math.inf, 1e4]]))[0, 1]) == opera.HALF


def attention(view: View, ids: Tensor) -> Tensor:
    """`[T, T]`: the last layer's weights from the library's eager maths, largest over heads, rows of sum 1."""
    before = view.attn_setting()
    view.set_attn("eager")
    weights = view.model(ids, output_attentions=True).attentions[-1][0].amax(0)
    view.set_attn(before)
    return weights / weights.sum(-1, keepdim=True)


def test_the_probe_sees_the_newest_row_of_the_last_layer() -> None:
    view, ids = toy([]), tiny.ids(11) % VOCABULARY
    probe = LastRow()
    with attach(view, probe):
        view.model(ids)
    torch.testing.assert_close(probe.seen["row"][0], attention(view, ids)[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [3, 12])
def test_the_penalty_is_that_of_the_whole_attention_map(steps: int) -> None:
    """Early: minus the attention to the image. Later: the largest column score of the map, the candidate included."""
    view, method = toy([]), Toy(num_beams=3, candidates=4, threshold=10**6)
    inputs = seen(view)
    n = inputs.ids.shape[1]
    with attach(view, method) as attached:
        attached.begin(inputs)
        run = Run(method, attached.request, 40, [])
        for _ in range(steps):
            tried = run.logits.topk(4, dim=-1).indices
            rows, logits = run.try_out(tried)
            penalty, products, place = run.judge(rows)
            before = run.beams
            chosen = run.choose((run.logits.scatter_add(1, tried, -penalty)).log_softmax(-1))
            run.advance(*chosen[:3], tried, products, logits)
    for k in range(3):
        locations = []
        for c in range(4):
            answer = torch.cat((before.tokens[k], tried[k, c, None]))
            a = attention(view, torch.cat((inputs.ids[0], answer))[None]).double()
            local = 50.0 * a[n:, n:]
            columns = torch.stack([1e-7 * local[j:, j].prod() for j in range(len(answer))])
            expected = columns.max() if steps > 10 else -a[-1, 2:6].sum()
            assert float(penalty[k, c]) == pytest.approx(float(expected), rel=5e-3, abs=1e-7)
            locations.append(int(columns.argmax()))
        assert int(place[k]) == int(torch.tensor(locations).mode().values)


def staged(monkeypatch: pytest.MonkeyPatch, location: int) -> list[tuple[int, list[list[int]]]]:
    """Every step's location is `location` (or the newest token); returns what the beams are at each step."""
    log: list[tuple[int, list[list[int]]]] = []
    judge = Run.judge

    def staged_judge(run: Run, rows: Tensor) -> Any:
        penalty, products, place = judge(run, rows)
        log.append((run.beams.tokens.shape[1], run.beams.tokens.tolist()))
        return penalty, products, place.new_full(place.shape, min(location, run.beams.tokens.shape[1]))

    monkeypatch.setattr(Run, "judge", staged_judge)
    return log


def test_a_habit_is_broken_by_going_back_and_choosing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Location 12 is the largest from step 12 on; with threshold 4 the fifth time sends the search to position 13."""
    view, log = toy([]), staged(monkeypatch, 12)
    method = Toy(num_beams=2, candidates=2, threshold=4)
    answer, run = search(view, method, seen(view), 24)
    lengths = [n for n, _ in log]
    assert lengths[:17] == list(range(17))
    # back to 13 twice, then to 12 twice, then no more; each return is followed by the step after the chosen token
    assert lengths[17:] == [14, 15, 16, 14, 15, 16, 13, 14, 15, 16, 13, 14, 15, 16, *range(17, 24)]
    assert run.returns == {13: 2, 12: 2} and len(answer) == 24
    versions = [beams for n, beams in log if n == 14][:3]
    first, *later = [{tuple(b) for b in beams} for beams in versions]
    assert all(tuple(b[:13]) in {tuple(x[:13]) for x in log[13][1]} for b in versions[1])  # the beginning is kept
    assert not first & later[0] and not (first | later[0]) & later[1]  # what was chosen before is forbidden


def test_going_back_restores_the_model_to_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a return the cache, logits and column products are those of the tokens that are there."""
    view, log = toy([]), staged(monkeypatch, 12)
    inputs = seen(view)
    n = inputs.ids.shape[1]
    checked = []
    advance = Run.advance

    def checking(run: Run, *args: Any) -> None:
        advance(run, *args)
        if run.returns and run.beams.tokens.shape[1] <= 16:
            for k in range(2):
                ids = torch.cat((inputs.ids[0], run.beams.tokens[k]))[None]
                torch.testing.assert_close(run.logits[k], view.model(ids).logits[0, -1], rtol=1e-3, atol=1e-3)
                a = attention(view, ids)
                columns = [(50.0 * a[n + j :, n + j]).log().sum() for j in range(ids.shape[1] - n)]
                torch.testing.assert_close(run.beams.products[k], torch.stack(columns), rtol=1e-3, atol=1e-3)
            checked.append(run.beams.tokens.shape[1])
        assert run.cache.get_seq_length() == n + run.beams.tokens.shape[1]

    monkeypatch.setattr(Run, "advance", checking)
    with attach(view, Toy(num_beams=2, candidates=2, threshold=4)) as attached:
        attached.begin(inputs)
        run = Run(attached.method, attached.request, 20, [])  # type: ignore[arg-type]
        with attached.runtime.silent():  # type: ignore[union-attr]
            run.search()
    assert checked.count(14) >= 2 and log


@pytest.mark.parametrize(("location", "threshold"), [(9, 4), (12, 100)])
def test_early_locations_and_rare_ones_send_nobody_back(
    location: int, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, log = toy([]), staged(monkeypatch, location)
    _, run = search(view, Toy(num_beams=2, candidates=2, threshold=threshold), seen(view), 20)
    assert [n for n, _ in log] == list(range(20)) and not run.returns


def test_only_what_is_remembered_can_be_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    view, log = toy([]), staged(monkeypatch, 12)
    _, run = search(view, Toy(num_beams=2, candidates=2, threshold=6, window=17), seen(view), 24)
    assert run.returns and len(run.history) <= 17
    view, log = toy([]), staged(monkeypatch, 20)
    _, run = search(view, Toy(num_beams=2, candidates=2, threshold=4, window=12), seen(view), 30)
    assert not run.returns and len(log) > 0


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_it_answers_about_a_picture_alike_each_time(family: str) -> None:
    view, method = tiny_vlm.view(family), Opera(num_beams=3, candidates=3)
    sample = sample_of(view, Draft("a", "what is it?", tuple(tiny_vlm.images(1))))
    with attach(view, method) as attached:
        one, two = (generate(view, [sample], [13], attached=attached)[0].ids for _ in range(2))
    assert one == two and 1 <= len(one) <= 13


def test_it_reports_what_it_did() -> None:
    view, method = tiny_vlm.view("llava"), Opera(num_beams=3, candidates=3)
    sample = sample_of(view, Draft("a", "what is it?", tuple(tiny_vlm.images(1))))
    proof = prove(view, method, collate(view, [sample]))
    assert proof["restored"] and proof["method_penalty"] < 0 and proof["method_gone_back"] == 0


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_with_a_picture_too_it_is_plain_beam_search_without_penalty(family: str) -> None:
    view = tiny_vlm.view(family)
    sample = sample_of(view, Draft("a", "what is it?", tuple(tiny_vlm.images(1))))
    method = Opera(weight=0.0, threshold=10**6, candidates=tiny_vlm.VOCABULARY, num_beams=2, length_rule="answer")
    plain = generate(view, [sample], [6], decoding=Decoding(search="beam", num_beams=2))[0].ids
    with attach(view, method) as attached:
        assert generate(view, [sample], [6], attached=attached)[0].ids == plain


def test_what_cannot_work_is_refused() -> None:
    view = toy([])
    with pytest.raises(UserError, match="picture"), attach(view, Toy()) as attached:
        attached.begin(of_ids(tiny.ids(5)))
        attached.method.generate(attached.request, [3], [])
    for method in (
        Opera(num_beams=1), Opera(candidates=0), Opera(scale=0), Opera(threshold=1), Opera(weight=-1), Opera(window=1),
        Opera(length_rule="prompt"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"method\.opera\.\w+ is "):
            method.validate()
