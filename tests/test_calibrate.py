"""What a method learned about a model is kept, reused, shown, and refused on another model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.config.compose import compose
from harness.errors import UserError
from harness.models import shapes
from harness.plan.cells import cells
from harness.running.calibrate import given_files
from methods.activations.iri import Injection
from tests import tiny_vlm

SMALL = ["task=[chair]", "task.chair.source=scenes", "task.chair.scenes=2", "task.chair.n_images=null",
         "task.chair.max_new_tokens=4", "efficiency=off", "tracking=disabled"]  # fmt: skip


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models are not moved by noise; every question counts here, and three are enough."""
    from methods.probes import fcct

    monkeypatch.setattr(fcct, "LEAST", -1.0)


def calibrate(folder: Path, results: Path) -> int:
    return main(["calibrate", f"model={folder}", "method=[iri]", "method.iri.questions=3", f"results={results}"])


def test_an_artifact_is_made_once_shown_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_vlm.save("llava", tmp_path / "one")
    assert calibrate(folder, tmp_path / "r") == 0
    made = sorted(p.suffix for p in (tmp_path / "r" / "artifacts").iterdir())
    assert made == [".csv", ".png", ".safetensors"]
    stamp = next((tmp_path / "r" / "artifacts").glob("*.safetensors")).stat().st_mtime_ns
    assert calibrate(folder, tmp_path / "r") == 0 and "calibrated before" in capsys.readouterr().out
    # strengths do not matter for what is learned
    run = ["run", f"model={folder}", "method=[iri]", "method.iri.questions=3", "method.iri.attn=5", "method.iri.mlp=5"]
    assert main([*run, *SMALL, f"results={tmp_path / 'r'}"]) == 0
    (only,) = (tmp_path / "r" / "artifacts").glob("*.safetensors")
    assert only.stat().st_mtime_ns == stamp


def test_an_artifact_of_another_model_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tiny_vlm.save("llava", tmp_path / "one"), tiny_vlm.save("vipllava", tmp_path / "other")
    assert calibrate(one, tmp_path / "r") == 0
    (file,) = (tmp_path / "r" / "artifacts").glob("*.safetensors")
    run = ["run", f"model={other}", "method=[iri]", f"method.iri.artifact={file}"]
    assert main([*run, *SMALL, f"results={tmp_path / 'r2'}"]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "was calibrated on another model" in shown and "Traceback" not in shown


def test_a_named_artifact_is_part_of_the_run_id_by_content(tmp_path: Path) -> None:
    folder = tiny_vlm.save("llava", tmp_path / "one")

    def run_id(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        cfg = compose(
            [f"model={folder}", "method=[iri]", f"method.iri.artifact={tmp_path / name}", *SMALL, "baseline=false"]
        )
        (cell,) = cells(cfg)
        return cell.run_id

    assert run_id("a", b"one") == run_id("b", b"one") != run_id("c", b"two")


def test_a_method_that_learns_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "method=[vcd]"]) == 2
    assert "calibrated" in capsys.readouterr().err


def test_an_artifact_of_another_method_or_of_other_settings_is_refused(tmp_path: Path) -> None:
    from harness.errors import UserError
    from harness.running.calibrate import _read, _write
    from methods.activations.iri import Injection

    model = {"weights": "w"}
    mine = {"model": model, "method": {"target": "methods.activations.iri.Injection", "params": {"questions": 3}}}
    other = {"model": model, "method": {"target": "elsewhere.Other", "params": {"questions": 3}}}
    fewer = {"model": model, "method": {"target": "methods.activations.iri.Injection", "params": {"questions": 2}}}
    for made in (other, fewer, {"model": model}):
        _write(tmp_path / "a.safetensors", {}, made)
        with pytest.raises(UserError, match="was calibrated for another method, or with other settings"):
            _read(tmp_path / "a.safetensors", Injection(), mine)
    _write(tmp_path / "a.safetensors", {}, mine | {"method": {**mine["method"], "source": "of an older version"}})
    assert _read(tmp_path / "a.safetensors", Injection(), mine) == {}


@pytest.mark.parametrize("name", ["~nobody-here/found", "x" * 300, "gone"])
def test_a_name_that_nothing_has_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match="is not a file; make one with"):
        given_files(Injection(artifact=name))
    with pytest.raises(UserError, match="There is no shape"):
        shapes.shape(name)
