"""Digests follow the content: not the place, not the sharding, not volatile keys."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.disk import content
from harness.errors import UserError
from harness.models import digest

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path: Path, **tensors: torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def test_weights_do_not_depend_on_sharding_place_or_metadata(tmp_path: Path) -> None:
    whole = digest.weights_digest([write(tmp_path / "x" / "m.safetensors", **TENSORS)])
    parts = [write(tmp_path / "y" / f"{k}.safetensors", **{k: v}) for k, v in TENSORS.items()]
    assert digest.weights_digest(parts) == digest.weights_digest(parts[::-1]) == whole
    save_file(TENSORS, tmp_path / "z.safetensors", metadata={"format": "pt", "author": "me"})
    assert digest.weights_digest([tmp_path / "z.safetensors"]) == whole


@pytest.mark.parametrize("change", ["value", "name", "shape", "dtype"])
def test_weights_depend_on_every_property_of_a_tensor(tmp_path: Path, change: str) -> None:
    tensors = dict(TENSORS)
    if change == "value":
        tensors["a"] = tensors["a"] + torch.eye(2, 3) * 1e-6
    if change == "name":
        tensors["c"] = tensors.pop("a")
    if change == "shape":
        tensors["a"] = tensors["a"].view(3, 2)
    if change == "dtype":
        tensors["b"] = tensors["b"].view(torch.int16)
    before = digest.weights_digest([write(tmp_path / "1.safetensors", **TENSORS)])
    assert digest.weights_digest([write(tmp_path / "2.safetensors", **tensors)]) != before


def test_second_reading_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SETTLED", 0.0)
    path = write(tmp_path / "m.safetensors", **TENSORS)
    first = digest.weights_digest([path])
    monkeypatch.setattr(digest, "_part", lambda path: pytest.fail("read again"))
    assert digest.weights_digest([path]) == first


def test_a_touched_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", a=torch.zeros(4))
    first = digest.weights_digest([path])
    stat = path.stat()
    write(path, a=torch.ones(4))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert path.stat().st_size == stat.st_size
    assert digest.weights_digest([path]) != first


def replaced(path: Path, **tensors: torch.Tensor) -> os.stat_result:
    """Other weights at the same place, with the size and the times that the old ones had."""
    stat = path.stat()
    path.unlink()
    write(path, **tensors)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    return stat


@pytest.mark.parametrize("settled", [0.0, content.SETTLED])
def test_other_weights_with_the_same_size_and_time_have_their_own_digest(tmp_path, monkeypatch, settled) -> None:
    monkeypatch.setattr(content, "SETTLED", settled)
    path = write(tmp_path / "m.safetensors", a=torch.zeros(4))
    first = digest.weights_digest([path])
    replaced(path, a=torch.ones(4))
    assert digest.weights_digest([path]) != first


def test_other_weights_on_a_file_system_that_makes_up_its_inodes_have_their_own_digest(tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "m.safetensors", a=torch.zeros(2**20))
    monkeypatch.setattr(content, "_facts", lambda stat: (stat.st_size, stat.st_mtime_ns, 0, 0, 0))
    first = digest.weights_digest([path])
    replaced(path, a=torch.full((2**20,), 1e-3))
    assert digest.weights_digest([path]) != first


def test_a_data_file_is_digested_as_it_is_now(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(content, "SETTLED", 0.0)
    path = tmp_path / "data.txt"
    path.write_text("one")
    first = content.file_digest(path)
    assert content.file_digest(path) == first
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content.file_digest(path) == hashlib.sha256(b"two").hexdigest() != first


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"k": 5}', '{"k": "short"}', "[" * 100_000])
def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.setattr(content, "SETTLED", 0.0)
    path = write(tmp_path / "m.safetensors", **TENSORS)
    first = digest.weights_digest([path])
    keys = json.loads(digest.cache_file().read_text())
    digest.cache_file().write_text(text.replace("k", next(iter(keys))))
    assert digest.weights_digest([path]) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert digest.weights_digest([write(tmp_path / "m.safetensors", **TENSORS)])


@pytest.mark.parametrize("keep", [0, 4, 30, -1])
def test_a_cut_file_is_named(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "m.safetensors", **TENSORS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"m\.safetensors"):
        digest.read_header(path)


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", **TENSORS)
    content = bytearray(path.read_bytes())
    content[8] = ord("}")
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="header"):
        digest.read_header(path)


def test_config_ignores_volatile_keys_at_any_depth() -> None:
    plain = {"model_type": "x", "text_config": {"n": 1}}
    noisy = {
        "text_config": {"n": 1, "torch_dtype": "float16"}, "transformers_version": "9", "_name_or_path": "/p",
        "dtype": "bfloat16", "model_type": "x",
    }  # fmt: skip
    assert digest.config_digest(plain) == digest.config_digest(noisy)
    assert digest.config_digest(plain) != digest.config_digest({**plain, "rope_theta": 1})
    assert digest.config_digest(plain, [1]) != digest.config_digest(plain, [1, 2])


def test_a_folder_without_tokenizer_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder with a tokenizer"):
        digest.tokenizer_digest(str(tmp_path))


def test_golden_digest_of_a_config() -> None:
    assert digest.config_digest({"model_type": "llama", "n": 2}, 1) == (
        "9c9e0e3763a844002c98ee619a59a0bb32e66d1d7f63e6b4c927acb75bddd8ff"
    )
