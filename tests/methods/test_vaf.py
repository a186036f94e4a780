"""VAF's factors."""

from __future__ import annotations

import pytest
import torch

from harness.errors import UserError
from methods.weights.vaf import VAF, factors
from tests.methods.test_pai import VIEW, call, image, random


def test_image_scores_grow_earlier_ones_shrink_later_ones_stay() -> None:
    s, shown = random(2, 4, 3, 12), image()
    new = VAF().scores(call(10, shown), s)
    assert new is not None
    for b, first in enumerate((2, 5)):
        for j in range(12):
            factor = 1.15 if shown[b, j] else 0.95 if j < first else 1.0
            torch.testing.assert_close(new[b, :, :, j], factor * s[b, :, :, j])  # signed: a negative score falls


def test_before_means_before_the_first_of_several_pictures() -> None:
    shown = torch.tensor([[False, True, True, False, True, False]])
    torch.testing.assert_close(factors(shown, 2.0, 0.5), torch.tensor([[0.5, 2, 2, 1, 2, 1]]))


def test_it_acts_in_six_middle_layers_of_32_and_scales() -> None:
    assert VAF().layers(VIEW) == [9, 10, 11, 12, 13, 14]  # type: ignore[arg-type]
    assert list(VAF().span(6)) == [1, 2] and list(VAF().span(4)) == [1]
    s, shown = random(2, 4, 3, 12), image()
    assert VAF().scores(call(8, shown), s) is None and VAF().scores(call(15, shown), s) is None
    assert VAF().scores(call(10, None), s) is None


def test_factors_of_one_are_idle() -> None:
    assert VAF(enhance=1, suppress=1).idle(100) and not VAF(enhance=1).idle(100)
    assert VAF(enhance=1, suppress=1).scores(call(10, image()), random(2, 4, 3, 12)) is None


@pytest.mark.parametrize("method", [VAF(enhance=0), VAF(suppress=-1), VAF(last_layer=0.5, first_layer=-1.5)], ids=repr)
def test_senseless_parameters_are_refused(method: VAF) -> None:
    with pytest.raises(UserError, match=r"method\.vaf\.\w+ is "):
        method.validate()
