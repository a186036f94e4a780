"""What a method learned about a model is kept, reused, shown, and refused on another model; its probe sees what `heed probe` sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main
from harness.config.compose import compose
from harness.errors import UserError
from harness.identity.run_id import canonical
from harness.models import shapes
from harness.plan.cells import cells
from harness.plan.named import named_files, read_named
from harness.records import learned
from harness.records.cells import read_cells
from harness.records.tables import concluded
from methods.activations.iri import Injection
from tests import tiny_vlm
from tests.models import small

SMALL = ["task=[chair]", "task.chair.source=scenes", "task.chair.scenes=2", "task.chair.n_images=null",
         "task.chair.max_new_tokens=4", "efficiency=off", "tracking=disabled"]  # fmt: skip


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models are not moved by noise; every question counts here, and three are enough."""
    from methods.probes import fcct

    monkeypatch.setattr(fcct, "LEAST", -1.0)


def calibrate(folder: Path, results: Path) -> int:
    return main(["calibrate", f"model={folder}", "method=[iri]", "method.iri.questions=3", f"results={results}"])


def learned_in(results: Path) -> Path:
    """The one lesson of a results folder."""
    (folder,) = (results / "learned").iterdir()
    return folder


def test_it_is_learned_once_shown_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_vlm.save("llava", tmp_path / "one")
    assert calibrate(folder, tmp_path / "r") == 0
    lesson = learned_in(tmp_path / "r")
    assert str(lesson / learned.TENSORS) in capsys.readouterr().out and learned.look(lesson)[0] == "learned"
    stamp = (lesson / "DONE").stat().st_mtime_ns
    assert calibrate(folder, tmp_path / "r") == 0 and "calibrated before" in capsys.readouterr().out
    # strengths do not matter for what is learned
    run = ["run", f"model={folder}", "method=[iri]", "method.iri.questions=3", "method.iri.attn=5", "method.iri.mlp=5"]
    assert main([*run, *SMALL, f"results={tmp_path / 'r'}"]) == 0
    assert (learned_in(tmp_path / "r") / "DONE").stat().st_mtime_ns == stamp


def test_what_was_learned_about_another_model_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tiny_vlm.save("llava", tmp_path / "one"), tiny_vlm.save("vipllava", tmp_path / "other")
    assert calibrate(one, tmp_path / "r") == 0
    run = ["run", "method=[iri]", "method.iri.questions=3", *SMALL, f"results={tmp_path / 'r2'}"]
    run += [f"method.iri.artifact={learned_in(tmp_path / 'r') / learned.TENSORS}"]
    assert main([*run, f"model={other}"]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "was calibrated on another model" in shown and "Traceback" not in shown
    assert main([*run, f"model={one}"]) == 0
    assert not (tmp_path / "r2" / "learned").exists()  # the named file stands for the lesson


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


def test_a_file_of_an_earlier_version_is_read_if_it_was_made_for_this_method_with_these_settings(
    tmp_path: Path,
) -> None:
    model = {"weights": "w"}
    own = {"target": "methods.activations.iri.Injection", "params": {"questions": 3, "attn": 5}}
    mine = {
        "model": model,
        "method": {"target": own["target"], "params": {"questions": 3}, "source": "of an older version"},
    }
    other = {"model": model, "method": {"target": "elsewhere.Other", "params": {"questions": 3}}}
    fewer = {"model": model, "method": {"target": "methods.activations.iri.Injection", "params": {"questions": 2}}}
    wanted = {"model": model, "probe": {"target": "methods.probes.fcct.FCCT", "params": {}}, "most": 3}
    file = tmp_path / "iri-0123456789abcdef.safetensors"
    named = Injection(artifact=str(file))
    for made in (other, fewer, {"model": model}):
        save_file({}, file, {"identity": canonical(made)})
        with pytest.raises(UserError, match="was calibrated for another method, or with other settings"):
            read_named(named, wanted, own)
    save_file({"attn_out": torch.ones(2)}, file, {"identity": canonical(mine)})
    assert read_named(named, wanted, own)["attn_out"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["~nobody-here/found", "x" * 300, "gone"])
def test_a_name_that_nothing_has_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match="is not a file; make one with"):
        named_files(Injection(artifact=name))
    with pytest.raises(UserError, match="There is no shape"):
        shapes.shape(name)


# ---- its probe is asked as in `heed probe`

TOY = ["task=[]", "+task.toy={_target_: tests.faults.toys.Toy, n: 3}", "tracking=disabled"]


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=512)


def learning(method: str) -> list[str]:
    return [*TOY, "method=[]", f"+method.{method.lower()}._target_=tests.toy_probes.{method}", "efficiency=off"]


def test_a_probe_that_looks_through_hooks_sees_in_a_lesson_what_it_sees_in_heed_probe(
    text_model: Path, tmp_path: Path
) -> None:
    assert main(["run", f"model={text_model}", *learning("Damped"), f"results={tmp_path}"]) == 0
    look = ["probe", f"model={text_model}", "+probe.peak._target_=tests.toy_probes.Peak", *TOY, f"results={tmp_path}"]
    assert main(look) == 0
    probed = next(c for c in read_cells(tmp_path) if c.labels["method"] == "peak")
    lesson = learned.read(learned_in(tmp_path))
    assert lesson is not None and len(lesson.tables["mean"].rows) == 12
    assert lesson.tables["mean"] == concluded(probed.path)["mean"]
    assert torch.equal(lesson.tensors["weight"], load_file(probed.path / learned.TENSORS)["weight"])
    damped = next(c for c in read_cells(tmp_path) if c.labels["method"] == "damped")
    assert damped.done and 0 < lesson.tensors["weight"] < 1


def test_nothing_is_learned_from_a_probe_that_changes_what_it_sees(
    text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"model={text_model}", *learning("Misled"), f"results={tmp_path}"]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "Probe 'meddler' changed what the model computes" in shown and "Traceback" not in shown
    assert learned.look(learned_in(tmp_path))[0] == "to learn"


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_lesson_on_questions_of_several_prompts_is_a_mistake_of_the_plan(
    text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["run", *more, f"model={text_model}", *learning("Scattered"), f"results={tmp_path}"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "Probe 'peak' looks at one prompt for each example" in shown and not list(tmp_path.iterdir())
