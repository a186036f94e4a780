"""The option files of passkey, perplexity and recall make valid tasks in every preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.contracts.example import Example
from harness.errors import UserError
from tests.toy import WordTokens

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def configured(name: str, preset: str, **changes: Any) -> Any:
    options = OmegaConf.merge(OmegaConf.load(CONFIGS / "task" / f"{name}.yaml"), {name: changes})
    cfg = OmegaConf.create(
        {"seed": 3, "preset": OmegaConf.load(CONFIGS / "preset" / f"{preset}.yaml"), "task": options}
    )
    return instantiate(cfg.task[name])


@pytest.mark.parametrize("preset", ["ci", "small", "paper"])
@pytest.mark.parametrize("name", ["passkey", "perplexity", "recall"])
def test_every_preset_makes_a_valid_task_that_can_be_hashed(name: str, preset: str) -> None:
    task = configured(name, preset)
    task.validate()
    assert task.seed == 3 and hash(task) == hash(configured(name, preset))
    assert isinstance(next(iter(task.examples(WordTokens()))), Example)


@pytest.mark.parametrize(("name", "count"), [("passkey", 20), ("recall", 20)])
def test_ci_is_small(name: str, count: int) -> None:
    task = configured(name, "ci")
    found = list(task.examples(WordTokens()))
    assert len(found) == task.size()[0] == count
    assert task.size()[1] >= sum(e.meta["n_tokens"] + e.question.max_new_tokens for e in found)


@pytest.mark.parametrize("style", ["landmark", "longlora", "infinitebench"])
def test_the_paper_preset_leaves_a_style_its_own_setting(style: str) -> None:
    task = configured("passkey", "paper", style=style)
    task.validate()
    assert len(task.lengths) == {"landmark": 13, "longlora": 32, "infinitebench": 1}[style]


def test_token_lengths_for_a_style_that_counts_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"passkey\.lengths=null"):
        configured("passkey", "ci", style="longlora").validate()
