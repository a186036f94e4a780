"""Options: what is refused, in which words, and what makes the identity."""

from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.errors import UserError
from tasks.ruler import Ruler
from tasks.ruler.catalog import TASKS

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
REFUSED = [
    ({"tasks": ["niah_singl_1"]}, "did you mean 'niah_single_1'"),
    ({"tasks": []}, "tasks is empty"),
    ({"tasks": ["vt", "vt"]}, "listed twice"),
    ({"lengths": [255]}, "at least 256"),
    ({"lengths": [512, 1024.5]}, "at least 256"),
    ({"lengths": []}, "at least 256"),
    ({"samples": 0}, "samples=0"),
    ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ({"max_new_tokens": 300, "lengths": [256]}, "no room"),
    ({"mode": "strickt"}, "did you mean 'strict'"),
    ({"words": "wonderword"}, "did you mean 'wonderwords'"),
    ({"essay_path": "no/such.txt"}, "essay_path=no/such.txt is not a file"),
    ({"params": {"vtt": {"hops": 1}}}, "no task 'vtt'; did you mean 'vt'"),
    ({"params": {"vt": {"hop": 1}}}, r"params.vt.hop\); did you mean 'hops'"),
    ({"params": {"vt": {"hops": 0}}}, "from 1 to 10"),
    ({"params": {"vt": {"shots": 2}}}, "from 0 to 1"),
    ({"params": {"fwe": {"alpha": 1}}}, "above 1"),
    ({"params": {"niah_single_1": {"haystack": "noises"}}}, "did you mean 'noise'"),
    ({"params": {"niah_multikey_1": {"keys": 41}}}, "40 depths"),
    ({"params": {"qa_1": {"dataset": "hotpotqa"}}}, "no parameter 'dataset'"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[str(options) for options, _ in REFUSED])
def test_mistakes_are_told(options, words):
    with pytest.raises(UserError, match=words):
        Ruler(**options).validate()


def test_the_defaults_are_valid_and_lists_become_tuples():
    task = Ruler(tasks=list(TASKS), lengths=[1024, 512], params={"vt": {}})
    task.validate()
    assert (task.tasks, task.lengths, task.params, task.lengths_needed()) == (TASKS, (1024, 512), {}, 1024)
    assert task == Ruler(lengths=(1024, 512), words="builtin")
    assert task.size() == (13 * 2 * 20, 13 * 20 * 1536)


@pytest.mark.parametrize("preset", ["ci", "small", "paper"])
def test_the_option_file_states_every_default(preset):
    options = OmegaConf.load(CONFIGS / "task" / "ruler.yaml")
    cfg = OmegaConf.create(
        {"seed": 3, "preset": OmegaConf.load(CONFIGS / "preset" / f"{preset}.yaml"), "task": options}
    )
    task = instantiate(cfg.task.ruler)
    task.validate()
    assert task == Ruler(lengths=task.lengths, samples=task.samples, seed=3) and isinstance(hash(task), int)
    assert set(options.ruler) == {"_target_", *(field.name for field in fields(Ruler))}
    assert set(options.ruler.params) == set(TASKS) - {"qa_1", "qa_2"}


def test_missing_wonderwords_names_the_package(monkeypatch):
    monkeypatch.setattr("tasks.ruler.pools.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wonderwords"):
        Ruler(tasks=["vt", "cwe"], mode="strict").validate()
    Ruler(tasks=["vt", "fwe", "niah_multikey_3"], mode="strict").validate()  # these draw no words


def test_given_files_and_built_in_texts_enter_the_identity(tmp_path):
    file = tmp_path / "essay.txt"
    file.write_text("One sentence. Another one.")
    built_in, own = Ruler(tasks=["niah_single_2", "qa_1"]), Ruler(tasks=["niah_single_2"], essay_path=str(file))
    assert built_in.data_files() == () and own.data_files() == (file,)
    assert built_in.provenance()["niah_single_2.haystack"].startswith("builtin-essay#")
    assert built_in.provenance()["qa_1.questions"].startswith("builtin-squad#")
    assert own.provenance()["niah_single_2.haystack"].startswith("essay.txt#")
    assert Ruler(tasks=["vt", "fwe"]).provenance() == {}


def test_a_file_in_another_layout_is_told(tmp_path):
    file = tmp_path / "squad.json"
    file.write_text('{"rows": []}')
    with pytest.raises(
        UserError, match=r"squad\.json: the key 'data' is missing\. ruler\.squad_path takes the layout of SQuAD"
    ):
        Ruler(tasks=["qa_1"], squad_path=str(file)).provenance() or list(
            Ruler(tasks=["qa_1"], squad_path=str(file)).examples(None)  # type: ignore[arg-type]
        )
