"""Every method on every family it supports (design section 8). The rows are data: `tests/matrix.py`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.method import Method
from harness.errors import NotEngaged, UserError
from harness.models.view import View
from tests import tiny
from tests.matrix import ACTING, CASES, PAIRS, PROMPT, Case, pair_id

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 through three layers with large random weights

acting = pytest.mark.parametrize(("case", "family"), ACTING, ids=pair_id)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def run(view: View, method: Method, ids: Tensor, steps: Tensor, mask: Tensor | None = None, chunk: int = 0) -> Tensor:
    """Logits `[B, 1 + n, V]` of the prompt's last row and of teacher-forced decode steps `[B, n]`, under a method."""
    with attach(view, method) as attached:
        cache, rows, seen = attached.new_cache(), [], 0
        prompt = [ids] if not chunk else list(ids.split(chunk, dim=1))
        for piece in (*prompt, *steps.split(1, dim=1)):
            seen += piece.shape[1]
            extra = {}
            if mask is not None:
                full = torch.cat((mask, torch.ones_like(steps)), dim=1)[:, :seen]
                positions = (full.cumsum(1) - 1).clamp(min=0)[:, -piece.shape[1] :]
                extra = {"attention_mask": full, "position_ids": positions}
            out = view.model(piece, past_key_values=cache, use_cache=True, **extra)
            cache = out.past_key_values
            rows.append(out.logits[:, -1:])
        return torch.cat(rows[len(prompt) - 1 :], dim=1)


def request(seed: int, batch: int = 1, length: int = PROMPT) -> tuple[Tensor, Tensor]:
    return tiny.ids(length, batch, seed), tiny.ids(4, batch, seed + 100)


@pytest.mark.parametrize(("case", "family"), PAIRS, ids=pair_id)
def test_the_identity_setting_equals_dense(case: Case, family: str) -> None:
    view, (ids, steps) = tiny.view(family), request(1)
    dense = run(view, CASES[0].acts, ids, steps)
    torch.testing.assert_close(run(view, case.equals_dense, ids, steps), dense, **CLOSE)


@acting
def test_the_method_is_engaged_and_leaves_nothing_behind(case: Case, family: str) -> None:
    proof = prove(tiny.view(family), case.acts, request(1)[0])
    assert set(proof["layers_touched"]) >= set(case.acts.layers(tiny.view(family)))
    assert proof["logits_moved"] > 0.01 and proof["restored"]
    assert proof["density"] < 1 and not proof["simulated"]
    assert (proof["density_prefill"] == 1) == case.acts.prefill_is_dense


@acting
def test_the_identity_setting_is_reported_as_not_engaged(case: Case, family: str) -> None:
    with pytest.raises(NotEngaged, match=case.acts.name):
        prove(tiny.view(family), case.equals_dense, request(1)[0])


@acting
def test_changing_the_last_token_leaves_earlier_logits(case: Case, family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(PROMPT)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % tiny.VOCABULARY
    with attach(view, case.acts) as attached:
        one = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).logits
        two = view.model(changed, past_key_values=attached.new_cache(), use_cache=True).logits
    assert torch.equal(one[:, :-1], two[:, :-1])
    assert not torch.equal(one[:, -1], two[:, -1])


@acting
def test_the_model_is_restored_after_an_exception(case: Case, family: str) -> None:
    view, ids = tiny.view(family), tiny.ids(40)
    before, setting = view.model(ids).logits, view.attn_setting()

    def interrupt(*args: object) -> None:
        raise KeyError("inside")

    handle = view.layers[1].register_forward_hook(interrupt)
    with pytest.raises(KeyError, match="inside"), handle, attach(view, case.acts) as attached:
        view.model(ids, past_key_values=attached.new_cache(), use_cache=True)
    assert view.attn_setting() == setting
    assert torch.equal(view.model(ids).logits, before)


@acting
def test_a_batch_gives_what_each_sample_gives_alone(case: Case, family: str) -> None:
    view, (ids, steps) = tiny.view(family), request(1, batch=2)
    lengths = [PROMPT, PROMPT] if case.acts.batching == "equal" else [PROMPT - 23, PROMPT]
    mask = torch.stack([(torch.arange(PROMPT) >= PROMPT - n).long() for n in lengths])
    together = run(view, case.acts, ids, steps, mask)
    for b, n in enumerate(lengths):
        alone = run(view, case.acts, ids[b : b + 1, PROMPT - n :], steps[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, **CLOSE)


@pytest.mark.slow
@acting
def test_requests_do_not_depend_on_each_other(case: Case, family: str) -> None:
    view, one, two = tiny.view(family), request(1), request(2, length=PROMPT - 30)
    with attach(view, case.acts) as attached:
        results = {}
        for order in ((one, two), (two, one)):
            for ids, steps in order:
                cache = view.model(ids, past_key_values=attached.new_cache(), use_cache=True).past_key_values
                logits = view.model(steps[:, :1], past_key_values=cache).logits
                assert torch.equal(logits, results.setdefault(ids.shape[1], logits))


@pytest.mark.slow
@acting
def test_generate_equals_the_forwards_it_is_made_of(case: Case, family: str) -> None:
    view, (ids, _) = tiny.view(family), request(1)
    with attach(view, case.acts) as attached:
        out = view.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, min_new_tokens=5, do_sample=False,
            past_key_values=attached.new_cache(), output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    forced = run(view, case.acts, ids, out.sequences[:, PROMPT : PROMPT + 4])
    torch.testing.assert_close(torch.stack(out.logits, dim=1), forced, **CLOSE)


@acting
def test_a_prompt_in_pieces_equals_one_piece_or_is_refused(case: Case, family: str) -> None:
    view, (ids, steps) = tiny.view(family), request(1)
    if case.acts.prefix_safe:
        whole = run(view, case.acts, ids, steps)
        torch.testing.assert_close(run(view, case.acts, ids, steps, chunk=37), whole, **CLOSE)
        return
    with pytest.raises(UserError, match="one piece"):
        run(view, case.acts, ids, steps, chunk=37)


EQUAL = [case for case in CASES if case.acts.batching == "equal"]


@pytest.mark.parametrize("case", EQUAL, ids=pair_id)
def test_padding_is_refused_where_lengths_must_be_equal(case: Case) -> None:
    view, ids = tiny.view("llama"), tiny.ids(40, 2)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    with pytest.raises(UserError, match="equal length"), attach(view, case.acts) as attached:
        view.model(ids, attention_mask=mask, past_key_values=attached.new_cache(), use_cache=True)
