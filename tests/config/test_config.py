"""Composition of a configuration and the words of its errors."""

import pytest
from omegaconf import OmegaConf

from harness.config.compose import compose
from harness.errors import UserError


def test_default_is_dense_micro_lm_on_passkey():
    cfg = compose([])
    assert (list(cfg.model), list(cfg.method), list(cfg.task)) == (["micro-lm"], ["dense"], ["passkey"])


def test_brackets_make_a_matrix_and_keys_override_one_option():
    cfg = compose(["method=[dense,power]", "task=[passkey,ruler]", "method.power.window_blocks=9"])
    assert list(cfg.method) == ["dense", "power"] and cfg.method.power.window_blocks == 9


def test_dense_is_added_unless_refused():
    assert "dense" in compose(["method=power"]).method
    assert list(compose(["method=power", "baseline=false"]).method) == ["power"]


def test_preset_scales_methods_and_tasks():
    small, paper = (compose(["method=power", "task=ruler", f"preset={p}"]) for p in ("ci", "paper"))
    assert small.method.power.block_size < paper.method.power.block_size == 256
    assert max(small.task.ruler.lengths) < max(paper.task.ruler.lengths) == 131072


def test_variant_is_a_copy_and_leaves_the_original():
    cfg = compose(["method=[power]", "+method.wide=${method.power}", "method.wide.window_blocks=11"])
    assert cfg.method.wide.window_blocks == 11 != cfg.method.power.window_blocks
    assert cfg.method.wide._target_ == cfg.method.power._target_


def test_a_folder_is_an_option_of_the_model_group(tmp_path):
    folder = tmp_path / "my.llama 7"
    folder.mkdir()
    cfg = compose([f"model={folder}", "model.my-llama-7.dtype=bfloat16"])
    assert cfg.model["my-llama-7"].path == str(folder) and cfg.model["my-llama-7"].dtype == "bfloat16"


def test_two_models_of_which_one_is_a_folder(tmp_path):
    cfg = compose([f"model=[micro-lm,{tmp_path}]"])
    assert len(cfg.model) == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("method=pwer", ["Unknown method 'pwer'", "did you mean 'power'"]),
        ("method=[dense,qest]", ["Unknown method 'qest'", "did you mean 'quest'"]),
        ("task=rular", ["Unknown task 'rular'", "did you mean 'ruler'"]),
        ("model=micro-ml", ["Unknown model 'micro-ml'", "did you mean 'micro-lm'"]),
        ("preset=cii", ["Unknown preset 'cii'", "did you mean 'ci'"]),
        ("mehtod=[dense]", ["Unknown key 'mehtod'", "did you mean 'method'"]),
        ("task.passkey.lenghts=[256]", ["Unknown key 'task.passkey.lenghts'", "did you mean 'lengths'"]),
        ("method.power.window_blocks=3", ["Unknown key 'method.power", "only if it is in the run"]),
        ("method=dense,power", ["heed run -m", "method=[dense,power]"]),
        ("method=[dense", ["cannot be read", "key=[a,b]"]),
        ("efficiency=fast", ["efficiency=fast", "off"]),
        ("tracking=onlin", ["tracking.mode=onlin", "did you mean 'online'"]),
        ("limit=0", ["limit=0", "from 1 to"]),
        ("limit=many", ["limit"]),
        ("task=[]", ["No task was chosen", "passkey"]),
    ],
)
def test_a_mistake_gets_one_paragraph_with_the_nearest_name(override, words):
    with pytest.raises(UserError) as error:
        compose([override])
    text = str(error.value)
    assert "\n" not in text and all(w in text for w in words), text


def test_every_option_file_composes_under_every_preset():
    from harness.config.compose import options

    for preset in ("ci", "small", "paper"):
        groups = [f"{g}=[{','.join(options(g))}]" for g in ("model", "method", "task")]
        cfg = compose([f"preset={preset}", *groups])
        assert not OmegaConf.missing_keys(cfg)


def test_a_suite_can_be_narrowed():
    cfg = compose(["suite=demo", "task=[passkey]", "method=[power]"])
    assert list(cfg.task) == ["passkey"] and list(cfg.method) == ["dense", "power"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("suite=nope", ["Unknown suite 'nope'", "demo"]),
        ("preset=[ci,small]", ["one preset"]),
        ("+foo=1", ["Unknown key 'foo'"]),
        ("method={power: {window_blocks: 9}}", ["string or a list"]),
        ("method=null", ["string or a list"]),
    ],
)
def test_what_hydra_would_take_silently_is_refused(override, words):
    from harness.plan.cells import cells

    with pytest.raises(UserError) as error:
        cells(compose([override]))
    assert all(w in str(error.value) for w in words), str(error.value)


def test_two_folders_of_one_name_are_two_models(tmp_path):
    folders = [tmp_path / x / "micro-lm" for x in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    cfg = compose([f"model=[{folders[0]},{folders[1]},micro-lm]"])
    assert [m.path for m in cfg.model.values()] == [str(folders[0]), str(folders[1]), "pkg://zoo.micro_lm"]


def test_a_variant_of_a_method_that_was_not_chosen_says_what_to_write():
    with pytest.raises(UserError, match=r"no 'power' in this run; write method=\[power\]"):
        compose(["method=[]", "+method.wide=${method.power}"])
