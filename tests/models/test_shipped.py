"""Models that are installed with a package: named by an option file, found without importing the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.models import shipped
from harness.models.load import ModelSpec

ROOT = Path(__file__).parents[2]


def test_option_files_say_which_models_are_installed_with_a_package() -> None:
    assert shipped.names() == ("micro-lm", "micro-vlm", "micro-vlm-careful")
    assert shipped.path_of("micro-lm") == "pkg://zoo.micro_lm"
    assert shipped.path_of("qwen3-8b") is None and shipped.path_of("no-such-model") is None


def test_a_name_and_its_path_are_one_model() -> None:
    """Stored configurations of the previous version hold the name."""
    named, placed = ModelSpec(path="micro-lm"), ModelSpec(path="pkg://zoo.micro_lm")
    assert named.identity() == placed.identity()
    assert (named.name, placed.name) == ("micro-lm", "micro-lm")
    assert named.resolve() == placed.resolve() == ROOT / "zoo" / "micro_lm"


def test_its_weights_are_those_of_the_committed_results() -> None:
    assert ModelSpec(path="micro-lm").identity()["weights"] == (
        "ca07c02fe6fffc5dfce595fc736b9903d2285ffbc103f7e26724955e139dee14"
    )


def test_it_computes_in_single_precision_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelSpec, "torch_device", lambda self: "cuda")
    assert ModelSpec(path="micro-vlm").identity()["dtype"] == "float32"
    assert ModelSpec(path=str(ROOT / "zoo" / "micro_vlm")).identity()["dtype"] == "bfloat16"


def test_another_models_tokenizer_is_named_the_same_way() -> None:
    other = ModelSpec(path="micro-vlm", tokenizer="micro-lm")
    assert other.identity()["tokenizer"] == ModelSpec(path="micro-lm").identity()["tokenizer"]


def test_a_folder_that_no_package_holds_is_said() -> None:
    with pytest.raises(UserError, match=r"no installed package holds the folder zoo\.nano_lm.*model=\./FOLDER"):
        ModelSpec(path="pkg://zoo.nano_lm").validate()


def test_planning_with_it_imports_no_package_and_no_torch() -> None:
    code = (
        "import sys; from harness.models.load import ModelSpec; ModelSpec(path='micro-lm').identity(); "
        "assert not {'zoo', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
