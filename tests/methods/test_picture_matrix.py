"""Every method on pictures with every family: it is engaged and leaves nothing behind, or it says why it cannot serve."""

from __future__ import annotations

import pytest
import torch

from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.asking.transform import transformed
from harness.attention.attach import attach
from harness.attention.engaged import prove
from harness.contracts.inputs import Draft
from harness.errors import NotEngaged, Unsupported
from harness.models.inputs import Sample, collate, sample_of
from harness.models.view import View
from tests import tiny_vlm
from tests.methods.picture_matrix import CASES, PAIRS, Case, pair_id
from tests.models import small


def sample(view: View) -> Sample:
    picture = tiny_vlm.images(1, 3)[0]
    return sample_of(view, Draft("one", "Is there a dog in the image?", (picture,), image_key="picture"))


@pytest.mark.parametrize(("case", "family"), PAIRS, ids=pair_id)
def test_the_method_is_engaged_or_says_why_not(case: Case, family: str) -> None:
    view = tiny_vlm.view(family)
    asked = sample(view)
    before = view.attn_setting()
    if family not in case.families:
        with pytest.raises(Unsupported), attach(view, case.acts, artifact=case.artifact):
            pass
        return
    changed = collate(view, [transformed(view, case.acts, asked)]) if case.acts.rewrites_prompt else None
    proof = prove(view, case.acts, collate(view, [asked]), changed=changed, artifact=case.artifact)
    assert proof["restored"] and view.attn_setting() == before
    assert set(proof["layers_touched"]) >= set(case.acts.layers(view))


@pytest.mark.parametrize("case", [c for c in CASES if c.equals_dense is not None], ids=str)
def test_the_identity_setting_is_not_engaged(case: Case) -> None:
    view = tiny_vlm.view("llava")
    assert case.equals_dense is not None
    with pytest.raises(NotEngaged, match=case.acts.name):
        prove(view, case.equals_dense, collate(view, [sample(view)]), artifact=case.artifact)


@pytest.mark.parametrize("case", [c for c in CASES if c.acts.prefix_safe], ids=str)
def test_a_shared_prefill_changes_no_answer(case: Case) -> None:
    view = tiny_vlm.view("llava")
    pictures = tiny_vlm.images(2, 0)
    texts = [("Is there a dog?", 0), ("Is there a red cat here?", 0), ("Is there a dog?", 1)]
    asked = [sample_of(view, Draft(f"{i}", t, (pictures[k],), image_key=f"p{k}")) for i, (t, k) in enumerate(texts)]
    with attach(view, case.acts, artifact=case.artifact) as attached:
        apart = generate(view, asked, [5] * 3, attached)
        shared = generate(view, asked, [5] * 3, attached, share=True)
    assert [g.ids for g in shared] == [g.ids for g in apart]


@pytest.mark.parametrize("case", [c for c in CASES if "beam" in c.acts.search], ids=str)
def test_under_beams_a_batch_gives_what_each_sample_gives_alone(case: Case) -> None:
    view = tiny_vlm.view("llava")
    pictures = tiny_vlm.images(2, 5)
    asked = [sample_of(view, Draft(f"{i}", t, (pictures[i],))) for i, t in enumerate(("Why?", "Is there a red dog?"))]
    asked = [transformed(view, case.acts, s) for s in asked] if case.acts.rewrites_prompt else asked
    beams = Decoding("beam", num_beams=2)
    with attach(view, case.acts, artifact=case.artifact) as attached:
        together = generate(view, asked, [4, 4], attached, beams)
        alone = [generate(view, [s], [4], attached, beams)[0] for s in asked]
    assert [g.ids for g in together] == [g.ids for g in alone]


@pytest.mark.parametrize("case", [c for c in CASES if "images" in c.acts.needs], ids=str)
def test_a_model_without_eyes_is_refused(case: Case) -> None:
    with pytest.raises(Unsupported), torch.no_grad(), attach(small.view("llama"), case.acts):
        pass
