"""Packed rows: branches see the prefix and themselves, targets are answers, negatives are of the wanted kind."""

import random
from dataclasses import replace

import pytest
import torch

from zoo.material.scenes import scene, text
from zoo.material.scenes.sample import EVERYWHERE, ROOMS
from zoo.recipes import vlm_data
from zoo.recipes.vlm_data import IDS, PREFIX, Mix
from zoo.recipes.vlm_tokenizer import encode, words

SHOWN, OTHER = scene(1, 0), scene(1, 1)
PLAIN = Mix(two_turns=0.0, confused=0.0)


def rows(seed: int = 0, mix: Mix = PLAIN, count: int = 2) -> list[list[vlm_data.Branch]]:
    rng = random.Random(seed)
    return [vlm_data.row(rng, SHOWN, OTHER, mix) for _ in range(count)]


def test_only_answers_and_their_end_are_learned() -> None:
    for branch in rows()[0]:
        learned = [i for i, weight in zip(branch.ids, branch.weights, strict=True) if weight]
        assert learned[-1] == IDS["</s>"]
        assert branch.ids[-len(learned) :] == learned
        assert branch.ids[-len(learned) - 2 : -len(learned)] == encode("ASSISTANT:")


def test_answers_agree_with_the_scene() -> None:
    rng = random.Random(3)
    answers = []
    for _ in range(200):
        branch = vlm_data.question(rng, SHOWN, PLAIN)
        ((at, present),) = branch.probes
        name = next(name for name, word in vlm_data.WORD_OF.items() if word == branch.ids[at])
        assert (name in SHOWN.categories) == bool(present)
        assert branch.ids[-2] == IDS["Yes" if present else "No"]
        answers.append(present)
    assert 0.4 < sum(answers) / len(answers) < 0.6


@pytest.mark.parametrize(
    ("mix", "wanted"),
    [(Mix(hard=1.0, common=0.0), set(ROOMS[SHOWN.room][1])), (Mix(hard=0.0, common=1.0), set(EVERYWHERE))],
)
def test_negatives_are_of_the_wanted_kind(mix: Mix, wanted: set[str]) -> None:
    rng = random.Random(4)
    asked = {vlm_data.negative(rng, SHOWN, mix) for _ in range(100)}
    assert asked == wanted - set(SHOWN.categories)


def test_untrue_captions_tell_absent_members_of_the_room() -> None:
    rng, told = random.Random(5), replace(PLAIN, told=1.0)
    absent = set(ROOMS[SHOWN.room][1]) - set(SHOWN.categories)
    extra = {vlm_data.WORD_OF[name] for name in absent}
    assert extra & set(vlm_data.caption(rng, SHOWN, told).ids)
    assert not extra & set(vlm_data.caption(rng, SHOWN, PLAIN).ids)


def test_two_turns_are_one_dialogue() -> None:
    branch = vlm_data.question(random.Random(6), SHOWN, replace(PLAIN, two_turns=1.0))
    assert len(branch.probes) == 2
    assert branch.ids.count(IDS["</s>"]) == 2
    end = branch.ids.index(IDS["</s>"])
    assert branch.ids[end + 1 : end + 3] == encode("USER:")


def test_the_text_only_branch_is_the_prompt_without_its_image() -> None:
    starts = {tuple(row[-1].ids[:4]) for row in rows(count=60)}
    assert all(not row[-1].sees and all(branch.sees for branch in row[:-1]) for row in rows())
    cut = [i for i in PREFIX if i != IDS["<image>"]]
    assert tuple(cut) in starts
    assert any(start[0] != IDS["<s>"] for start in starts)


def test_branches_see_the_prefix_and_themselves_only() -> None:
    packed = vlm_data.pack(rows())
    first, second, *_, last = rows()[0]
    start = len(PREFIX)
    end = start + len(first.ids)
    mask = packed.mask[0, 0]
    assert mask[end - 1, :end].all()
    assert mask[end, :start].all() and not mask[end, start:end].any() and mask[end, end]
    at = start + sum(len(branch.ids) for branch in rows()[0]) - len(last.ids)
    assert not mask[at + 1, :at].any() and mask[at + 1, at : at + 2].all()
    assert not mask.triu(1).any()
    assert packed.positions[0, end] == start
    assert packed.positions[0, at] == 0
    assert len(second.ids) > 0


def test_probes_point_at_the_object_word() -> None:
    packed = vlm_data.pack(rows())
    found = packed.ids[packed.probes[:, 0], packed.probes[:, 1]]
    assert torch.isin(found, torch.tensor(list(vlm_data.WORD_OF.values()))).all()
    assert len(packed.present) == len(packed.probes) == 12


def test_padding_sees_only_itself_and_is_no_target() -> None:
    packed = vlm_data.pack([rows()[0], rows()[0][:1]])
    end = len(PREFIX) + len(rows()[0][0].ids)
    assert packed.weights[1, end:].sum() == 0
    assert torch.equal(packed.mask[1, 0, end:], torch.eye(packed.mask.shape[-1], dtype=torch.bool)[end:])


def test_last_words_of_categories_differ() -> None:
    assert len(set(vlm_data.WORD_OF.values())) == len(vlm_data.WORD_OF)


def test_the_vocabulary_stays_as_it_was_trained() -> None:
    assert words()[:4] == ("\n", "a", "dining", "room")
    assert len(words()) == 113
    assert len(text.SUFFIXES) == len(vlm_data.SUFFIX_WEIGHTS)
