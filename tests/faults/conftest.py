"""One tiny model, and one calm run of the toys to which every troubled run is compared."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.running.run import RunSettings, execute
from tests.faults import runs
from tests.faults.toys import VARIABLE
from tests.models.small import save


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def calm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calm")
    outcomes = execute(runs.plan(model), RunSettings(root, efficiency="off", batch_tokens=500))
    assert [o.status for o in outcomes] == ["done", "done"]
    return root


@pytest.fixture(autouse=True)
def _well_behaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


class Disk:
    """A file system of its own, a few hundred kB large."""

    def __init__(self, place: Path, kib: int) -> None:
        self.place = place
        place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place))

    def fill(self, leave: int) -> None:
        """Leave `leave` bytes free."""
        free = shutil.disk_usage(self.place).free
        (self.place / "ballast").write_bytes(b"x" * max(free - leave, 0))

    def empty(self) -> None:
        (self.place / "ballast").unlink()

    def read_only(self, yes: bool) -> None:
        _mount("-o", f"remount,{'ro' if yes else 'rw'}", str(self.place))


def _mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True, capture_output=True)


class Device:
    """An ext4 file system on a device that can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self.place, self.image = folder / "device", folder / "image"
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, capture_output=True)
        _mount("-o", "loop", str(self.image), str(self.place))

    def fail(self) -> None:
        """What the kernel does after an error of the device: nothing can be written any more."""
        _mount("-o", "remount,abort", str(self.place))

    def repair(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)
        subprocess.run(["e2fsck", "-p", str(self.image)], check=False, capture_output=True)
        _mount("-o", "loop", str(self.image), str(self.place))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """Needs root and loop devices; without them the test is left out."""
    try:
        made = Device(tmp_path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield made
    subprocess.run(["umount", "-l", str(made.place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Needs root; without it the test is left out (`test_store` fills a limit on file sizes instead)."""
    try:
        made = Disk(tmp_path / "disk", 512)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield made
    subprocess.run(["umount", "-l", str(made.place)], check=True)
