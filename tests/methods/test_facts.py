"""What holds for all methods as a set: no torch at import, configs that match the fields, options explained, senseless
refused.
"""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.contracts.method import Method
from harness.errors import UserError
from methods.cache.h2o import HeavyHitters
from methods.cache.snapkv import SnapKV
from methods.cache.streaming_kv import StreamingKV
from methods.patterns.dilated import DilatedWindow
from methods.patterns.longnet import LongNet
from methods.patterns.power import PowerAttention
from methods.patterns.sliding import SlidingWindow
from methods.patterns.streaming import StreamingMask
from methods.patterns.stride_slash import StrideSlash
from methods.selection.quest import Quest
from tests.matrix import CASES as TEXT_CASES
from tests.methods.picture_matrix import CASES as PICTURE_CASES

ROOT = Path(__file__).parents[2]
REFUSED = {"moda"}  # listed with the reason why nobody can run it
EXTRAS = {"kvpress"}  # needs an optional package: its matrix is in its own test file
CONFIGS = sorted(p for p in (ROOT / "configs" / "method").glob("*.yaml") if p.stem not in REFUSED)
CASES = (*TEXT_CASES, *PICTURE_CASES)
PRESETS = ("ci", "small", "paper")


def load(path: Path, preset: str) -> Method:
    """The method of a config file under a preset."""
    values = OmegaConf.create(
        {"preset": OmegaConf.load(ROOT / "configs" / "preset" / f"{preset}.yaml"), "method": OmegaConf.load(path)}
    )
    options = dict(OmegaConf.to_container(values, resolve=True)["method"][path.stem])  # type: ignore[index, call-overload]
    module, _, name = options.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), name)(**options)


def test_methods_import_without_torch() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "methods").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    code = f"import sys; [__import__(m) for m in {modules!r}]; sys.exit('torch' in sys.modules)"
    assert len(modules) >= 12
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_method_has_a_config_and_a_row_in_the_matrix() -> None:
    names = {path.stem for path in CONFIGS}
    assert names == {case.acts.name for case in CASES} | EXTRAS


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_sets_every_option_of_its_method(path: Path, preset: str) -> None:
    method = load(path, preset)
    method.validate()
    fields = {field.name for field in dataclasses.fields(method)}
    options = OmegaConf.load(path)[path.stem]
    assert method.name == path.stem and set(options) - {"_target_"} == fields == set(method.options)
    assert not method.idle(256 if preset == "ci" else 4096 if preset == "paper" else 1024)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_paper_preset_is_the_published_default(path: Path) -> None:
    method = load(path, "paper")
    assert method == type(method)()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_facts_are_stated(case) -> None:
    method = case.acts
    assert method.title and method.paper and method.budget_unit and type(method).__doc__
    assert hash(method) == hash(dataclasses.replace(method)) and method == dataclasses.replace(method)
    assert bool(method.hooks) == (method.name != "dense")


@pytest.mark.parametrize(
    "method",
    [
        PowerAttention(block_size=0), PowerAttention(window_blocks=0), PowerAttention(sink_blocks=-1),
        PowerAttention(full_layers=(-1,)), StrideSlash(stride=0), DilatedWindow(dilation=-1), LongNet(widths=(8,)),
        LongNet(widths=(3,), rates=(1,)), StreamingMask(recent=0), StreamingMask(sinks=-1), Quest(budget=0),
        Quest(page=0), Quest(share="both"), SnapKV(capacity=32), SnapKV(kernel=4), SnapKV(pool="sum"), SnapKV(window=0),  # type: ignore[arg-type]
        HeavyHitters(heavy=0), HeavyHitters(variant="global"), StreamingKV(recent=0),
    ],
    ids=repr,
)  # fmt: skip
def test_senseless_parameters_are_refused_with_the_option_named(method: Method) -> None:
    with pytest.raises(UserError, match=rf"method\.{method.name}\.\w+ is "):
        method.validate()


def test_lists_from_configs_compare_like_tuples() -> None:
    assert LongNet(widths=[8, 16], rates=[1, 2]) == LongNet(widths=(8, 16), rates=(1, 2))  # type: ignore[arg-type]


# share of the 128 blocks of a 32K input that reach the last block within 1, 2, 3, ... layers (methods-llm.md, section 3)
RECEPTIVE_FIELDS = [
    (PowerAttention(), [0.08, 0.27, 0.59, 0.86, 0.98, 1.0]),
    (SlidingWindow(), [0.08, 0.14, 0.20, 0.27, 0.33, 0.39, 0.45]),
    (StrideSlash(), [0.08, 0.23, 0.39, 0.55, 0.70, 0.86, 0.98]),
]


@pytest.mark.parametrize(("method", "shares"), RECEPTIVE_FIELDS)
def test_receptive_field_by_layers(method: Method, shares: list[float]) -> None:
    found = [round(method.receptive_field(32768, n + 1) or 0, 2) for n in range(len(shares))]
    assert found == pytest.approx(shares, abs=0.011)


def test_receptive_fields_that_never_close() -> None:
    assert DilatedWindow().receptive_field(32768, 40) == 0.5
    assert LongNet().receptive_field(32768, 40) == pytest.approx(0.62, abs=0.011)
    assert PowerAttention(full_layers=(0,)).receptive_field(32768, 2) == 1.0
    assert StreamingMask(sinks=4, recent=100).receptive_field(1000, 3) == (4 + 1 + 3 * 99) / 1000
    assert Quest().receptive_field(1000, 3) is None
