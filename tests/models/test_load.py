"""Loading: every family comes back as it was saved, every defect is one clear sentence, identity follows content."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from harness.errors import UserError
from harness.models import load
from harness.models.load import ModelSpec
from tests.models import small


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("llama") / "m")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A fresh copy of a good checkpoint."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def spec(folder: Path | str, **changes: Any) -> ModelSpec:
    return ModelSpec(path=str(folder), device="cpu", **changes)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", small.FAMILIES)
def test_saved_and_loaded_models_compute_the_same(family: str, tmp_path: Path) -> None:
    small.save(tmp_path / "m", family)
    view = spec(tmp_path / "m", backend="eager" if family == "gpt_oss" else "sdpa").load()
    ids = torch.arange(5, 30)[None]
    assert torch.equal(view.model(input_ids=ids).logits, small.model(family)(input_ids=ids).logits)
    assert view.family == family and view.name == "m" and not view.model.training
    assert not any(p.requires_grad for p in view.model.parameters())


def test_view_and_tokenizer_alone_agree(saved: Path) -> None:
    view, tokens = spec(saved).load(), spec(saved).tokens()
    assert view.digest == tokens.digest == spec(saved).identity()["tokenizer"]
    assert view.prompt_ids("Hello  world ") == tokens.prompt_ids("Hello  world ")


def test_dtype_auto_is_float32_on_a_cpu_and_otherwise_what_was_asked(tmp_path: Path) -> None:
    small.model("llama").to(torch.bfloat16).save_pretrained(tmp_path / "m")
    small.tokenizer().save_pretrained(tmp_path / "m")
    assert spec(tmp_path / "m").load().dtype == torch.float32
    assert spec(tmp_path / "m", dtype="bf16").load().dtype == torch.bfloat16
    assert spec(tmp_path / "m", dtype="bf16").identity() == spec(tmp_path / "m", dtype="bfloat16").identity()


def test_dtype_auto_is_the_checkpoints_own_on_a_gpu(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = shutil.copytree(saved, saved.parent / "half")
    edit_json(edit / "config.json", dtype="bfloat16")
    monkeypatch.setattr(load, "cuda_available", lambda: True)
    assert ModelSpec(path=str(edit)).identity()["dtype"] == "bfloat16"
    assert ModelSpec(path=str(edit), device="cpu").identity()["dtype"] == "float32"


# ---- identity


def test_identity_does_not_depend_on_the_place_or_the_device(saved: Path, folder: Path) -> None:
    base = spec(saved).identity()
    assert spec(folder).identity() == base
    assert spec(folder, device_map=None).identity() == base
    assert ModelSpec(path=str(folder), device="auto", dtype="float32").identity() == base
    assert spec(folder, max_positions=512, template="none").identity() == base
    edit_json(folder / "config.json", transformers_version="0", _name_or_path="/elsewhere")
    assert spec(folder).identity() == base
    assert json.loads(json.dumps(base)) == base


def test_identity_does_not_depend_on_the_sharding(saved: Path, tmp_path: Path) -> None:
    model = spec(saved).load().model
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    small.tokenizer().save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert spec(tmp_path / "shards").identity() == spec(saved).identity()
    assert spec(tmp_path / "shards").load().model.num_parameters() == model.num_parameters()


@pytest.mark.parametrize(
    "changes", [{"dtype": "bfloat16"}, {"backend": "eager"}, {"max_positions": 99}], ids=lambda c: next(iter(c))
)
def test_identity_depends_on_settings_that_change_numbers(saved: Path, changes: dict[str, Any]) -> None:
    assert replace(spec(saved), **changes).identity() != spec(saved).identity()


def change_one_weight(folder: Path) -> None:
    edit_weights(folder, lambda t: t["model.norm.weight"].add_(1e-3))


def change_a_stop_id(folder: Path) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=[1, 9])


def add_a_chat_template(folder: Path) -> None:
    small.tokenizer(chat=True).save_pretrained(folder)


def change_the_rope(folder: Path) -> None:
    edit_json(folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 5e5})


@pytest.mark.parametrize("edit", [change_one_weight, change_a_stop_id, add_a_chat_template, change_the_rope])
def test_identity_depends_on_the_content(saved: Path, folder: Path, edit: Callable[[Path], None]) -> None:
    edit(folder)
    assert spec(folder).identity() != spec(saved).identity()


def test_another_tokenizer_can_be_named(saved: Path, tmp_path: Path) -> None:
    small.tokenizer(chat=True).save_pretrained(tmp_path / "chatty")
    other = spec(saved, tokenizer=str(tmp_path / "chatty"))
    assert other.tokens().template == "chat" and other.load().template == "chat"
    assert other.identity()["tokenizer"] != spec(saved).identity()["tokenizer"]
    assert other.identity()["template"] == "chat"
    assert load.tokenizer_identity(str(tmp_path / "chatty")) == other.identity()["tokenizer"]
    assert ModelSpec(path=str(tmp_path / "chatty")).tokens().digest == other.identity()["tokenizer"]


def test_planning_needs_no_torch(saved: Path) -> None:
    code = (
        "import sys; from harness.models.load import ModelSpec; "
        f"s = ModelSpec(path={str(saved)!r}, device='cpu'); s.validate(); s.identity(); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# ---- defects


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def stray_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def lost_shard(folder: Path) -> None:
    stray_shard(folder)
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def unknown_family(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="lama")


def no_family(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def own_code(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Evil"})


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def deep_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def no_heads(folder: Path) -> None:
    edit_json(folder / "config.json", num_attention_heads=0)


def unknown_number_format(folder: Path) -> None:
    edit_json(folder / "config.json", dtype="bfloat61")


def part_that_is_no_object(folder: Path) -> None:
    edit_json(folder / "config.json", text_config=[1])


SEEN_AT_ONCE = [
    (cut, r"model\.safetensors is cut or damaged"),
    (only_pickles, r"pickled weights only.*save_pretrained"),
    (no_weights, r"no weights: model\.safetensors"),
    (stray_shard, r"no weights.*model-00001-of-00002"),
    (lost_shard, r"lacks model-00002-of-00002\.safetensors"),
    (no_config, r"no config\.json"),
    (broken_config, r"config\.json is not JSON"),
    (deep_config, r"config\.json nests deeper than"),
    (no_heads, r"config\.json: num_attention_heads is 0.*at least 1"),
    (unknown_number_format, r"config\.json: dtype is 'bfloat61': did you mean 'bfloat16'"),
    (part_that_is_no_object, r"config\.json: text_config must be an object"),
    (unknown_family, r"'lama'.*did you mean 'llama'.*gpt_oss.*harness/models/families\.py"),
    (no_family, r"without model_type.*families\.py"),
    (own_code, r"trust_remote_code=true"),
    (no_tokenizer, r"no tokenizer.*tokenizer="),
]


@pytest.mark.parametrize(("spoil", "message"), SEEN_AT_ONCE, ids=[f.__name__ for f, _ in SEEN_AT_ONCE])
def test_defects_are_seen_before_anything_is_loaded(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spec(folder).validate()
    spoil(folder)
    for call in (spec(folder).validate, spec(folder).load):
        with pytest.raises(UserError, match=message):
            call()


def wrong_shape(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=64)


def wrong_shape_of_one(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"model.norm.weight": torch.ones(33)}))


def lost_tensor(folder: Path) -> None:
    edit_weights(folder, lambda t: t.pop("model.layers.1.self_attn.k_proj.weight"))


def extra_tensor(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"score.weight": torch.ones(2, 32)}))


def fewer_layers(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=2)


def odd_head_count(folder: Path) -> None:
    edit_json(folder / "config.json", num_attention_heads=5)


def unknown_activation(folder: Path) -> None:
    edit_json(folder / "config.json", hidden_act="foo")


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def deep_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[" * 100_000 + "]" * 100_000)


SEEN_ON_LOADING = [
    (wrong_shape, r"'model\.layers\.0\.mlp\.down_proj\.weight' has shape \[32, 48\].*asks for \[32, 64\]"),
    (wrong_shape_of_one, r"'model\.norm\.weight' has shape \[33\].*\[32\] \(wrong shapes: 1\)"),
    (lost_tensor, r"are not in the weights.*: model\.layers\.1\.self_attn\.k_proj\.weight"),
    (extra_tensor, r"no place in the model: score\.weight\."),
    (fewer_layers, r"no place in the model: model\.layers\.2\..* and \d+ more\."),
    (odd_head_count, r"cannot be loaded.*not a multiple.*config\.json"),
    (unknown_activation, r"cannot be loaded.*'foo'.*config\.json"),
    (broken_tokenizer, r"tokenizer in .* cannot be read"),
    (deep_tokenizer, r"tokenizer in .* cannot be read"),
]


@pytest.mark.parametrize(("spoil", "message"), SEEN_ON_LOADING, ids=[f.__name__ for f, _ in SEEN_ON_LOADING])
def test_weights_must_fit_exactly(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message):
        spec(folder).load()


WRONG_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "bfloat61"}, r"Unknown dtype 'bfloat61'.*did you mean 'bfloat16'"),
    ({"template": "chatt"}, r"Unknown template 'chatt'.*did you mean 'chat'"),
    ({"backend": "spda"}, r"'spda'.*did you mean 'sdpa'"),
    ({"device_map": "balanced"}, r"device_map='balanced'"),
    ({"device_map": "auto"}, r"both device='cpu' and device_map"),
    ({"revision": "main"}, r"local.*revision='main'"),
    ({"max_positions": 0}, r"max_positions"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SETTINGS, ids=[next(iter(c)) for c, _ in WRONG_SETTINGS])
def test_wrong_settings_are_refused_with_the_nearest_name(saved: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec(saved, **changes).validate()


def test_unknown_device_and_missing_gpu(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Unknown device 'gpu'"):
        ModelSpec(path=str(saved), device="gpu").validate()
    monkeypatch.setattr(load, "cuda_available", lambda: False)
    with pytest.raises(UserError, match="no usable GPU"):
        ModelSpec(path=str(saved), device="cuda:1").load()


def test_sink_logits_exclude_sdpa(tmp_path: Path) -> None:
    small.save(tmp_path / "m", "gpt_oss")
    with pytest.raises(UserError, match=r"'gpt_oss'.*no attention backend 'sdpa'.*eager"):
        spec(tmp_path / "m").validate()


# ---- names


def test_a_misspelt_name_gets_the_nearest_member() -> None:
    with pytest.raises(UserError, match=r"no model 'micro-ln'.*did you mean 'micro-lm'"):
        spec("micro-ln").validate()


def test_a_zoo_name_is_found_without_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "micro-lm").mkdir()
    monkeypatch.chdir(tmp_path)
    assert spec("micro-lm").resolve() == Path(zoo.__file__).parent / "micro_lm"
    assert spec("./micro-lm").resolve() == (tmp_path / "micro-lm").resolve()


def hub_cache(root: Path, saved: Path, commit: str) -> None:
    """What the hub client's cache looks like after a download of owner/name."""
    repo = root / "hub" / "models--owner--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(saved, repo / "snapshots" / commit)


def offline_python(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A process that sees `root` as its hub cache and no network."""
    env = {"HF_HOME": str(root), "HF_HUB_OFFLINE": "1", "PATH": "", "XDG_CACHE_HOME": str(root)}
    head = "from harness.models.load import ModelSpec; from harness.errors import UserError; "
    head += "s = ModelSpec(path='owner/name', device='cpu')\n"
    args = [sys.executable, "-c", head + code]
    return subprocess.run(args, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True)


def test_a_cached_hub_model_needs_no_network(saved: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub_cache(tmp_path, saved, commit)
    code = (
        "s.validate(); i = s.identity(); folder = s.source().download()\n"
        "print(i['revision'], i['weights'], s.resolve().name, folder == s.resolve(), s.name)"
    )
    done = offline_python(tmp_path, code)
    assert done.stdout.split() == [commit, "None", commit, "True", "owner/name"], done.stderr


def test_a_hub_model_that_is_not_there_names_the_three_ways(tmp_path: Path) -> None:
    code = "try:\n    s.identity()\nexcept UserError as e:\n    print(e)"
    done = offline_python(tmp_path, code)
    for words in ("owner/name", "cannot be reached", "local folder", "micro-lm", "network"):
        assert words in done.stdout, done.stderr
    assert offline_python(tmp_path, "print(s.resolve())").stdout.strip() == "None"
