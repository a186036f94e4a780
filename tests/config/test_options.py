"""Wrong types are refused when the plan is made, with the key and what it must be."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from harness.config.compose import compose
from harness.contracts.options import fits
from harness.errors import UserError
from harness.plan.cells import cells


@pytest.mark.parametrize(
    ("value", "hint", "fine"),
    [
        (3, int, True), (3.0, int, False), (True, int, False), ("3", int, False), (3, float, True), (True, float, False),
        (None, int | None, True), ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), ([1, 2], Sequence[int], True),
        ([1, "x"], Sequence[int], False), (4, Sequence[int], False), (4, int | Sequence[int], True), ([1], tuple[int, ...], True),
        ({"a": {"b": 1}}, Mapping[str, Mapping[str, Any]], True), ({"a": 1}, Mapping[str, Mapping[str, Any]], False),
    ],
)  # fmt: skip
def test_what_fits(value, hint, fine):
    assert fits(value, hint) is fine


@pytest.mark.parametrize(
    "override",
    ["method.power.window_blocks=abc", "method.power.window_blocks=2.5", "method.power.window_blocks=true",
     "method.power.block_size=null", "method.power.full_layers=2", "model.micro-lm.path=null", "model.micro-lm.device=7",
     "task.passkey.depths=[abc]", "task.passkey.trials=1.5", "preset.power.window_blocks=abc"],
)  # fmt: skip
def test_a_wrong_type_names_key_and_kind(override):
    with pytest.raises(UserError, match=r"does not fit|must be"):
        cells(compose(["method=power", override]))
