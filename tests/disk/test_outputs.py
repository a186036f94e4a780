"""Where results go when the user names a file: through links, into pipes and devices, never over an input."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.cli import main
from harness.disk.output import output, write_output, write_rows
from harness.errors import UserError
from tests.commands.test_gate import cell

DATA = ["data", "task=passkey", "task.passkey.lengths=[256]", "task.passkey.depths=[0]", "task.passkey.trials=1"]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A folder with `e.jsonl`, one example, and `o.jsonl`, its output."""
    assert main([*DATA, f"out={tmp_path}/e.jsonl"]) == 0
    row = json.loads((tmp_path / "e.jsonl").read_text())
    write_rows(tmp_path / "o.jsonl", [{"id": row["id"], "text": row["references"][0]}])
    return tmp_path


@pytest.fixture
def results(tmp_path: Path) -> list[str]:
    """A gate that passes, as a command without its files."""
    cell(tmp_path / "old", 90)
    cell(tmp_path / "new", 90)
    return ["gate", "--baseline", str(tmp_path / "old"), "--candidate", str(tmp_path / "new")]


def read_in_background(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """Somebody who reads a pipe."""
    found: list[bytes] = []
    ready = threading.Event()

    def read() -> None:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # the reader is there before the writer comes
        os.set_blocking(number, True)
        ready.set()
        with os.fdopen(number, "rb") as pipe:
            while not found:
                if part := pipe.read():
                    found.append(part)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert ready.wait(5)
    return thread, found


def test_a_link_stays_a_link_and_its_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "real").write_text("old")
    (tmp_path / "link").symlink_to("sub/real")
    write_output(output("out=", str(tmp_path / "link")), b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "sub" / "real").read_text() == "new"
    (tmp_path / "to").symlink_to("made/later")
    write_output(output("out=", str(tmp_path / "to")), b"new")
    assert (tmp_path / "made" / "later").read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["real"]


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path, results: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    thread, found = read_in_background(tmp_path / "pipe")
    assert main([*results, "--junit", str(tmp_path / "link")]) == 0
    thread.join(5)
    assert b"<testsuite" in found[0]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "link").is_symlink()


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(tmp_path: Path, results: list[str], capsys) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main([*results, "--junit", str(tmp_path / "pipe")]) == 2
    assert "is a pipe that nobody reads" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_written_into_and_stays_one(tmp_path: Path, results: list[str]) -> None:
    try:  # a null device of our own: if this fails, it is not the machine's that is gone
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (tmp_path / "null").write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no device can be made here ({errno.errorcode[error.errno or 0]})")
    assert main([*results, "--junit", str(tmp_path / "null"), "--markdown", str(tmp_path / "null")]) == 0
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


@pytest.mark.parametrize("redirected", [True, False])
def test_dev_stdout_is_this_command_s_own_stdout(tmp_path: Path, results: list[str], redirected: bool) -> None:
    """In CI it often is a file: replaced by its name, the rest of the output would go to a file without a name."""
    (tmp_path / "stdout").symlink_to("/dev/stdout")
    command = [sys.executable, "-m", "harness.cli", *results, "--markdown", str(tmp_path / "stdout")]
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(command, stdout=log if redirected else subprocess.PIPE, cwd=Path(__file__).parents[2])
    text = (tmp_path / "log").read_text() if redirected else done.stdout.decode()
    assert done.returncode == 0 and "### heed gate: pass" in text and text.index("cell") < text.index("### heed gate")


def test_an_input_is_never_an_output_by_any_name(scored: Path, capsys) -> None:
    before = (scored / "e.jsonl").read_bytes()
    (scored / "link").symlink_to("e.jsonl")
    os.link(scored / "e.jsonl", scored / "hard")
    for name in ("e.jsonl", "link", "hard", "../" + scored.name + "/e.jsonl"):
        arguments = ["score", "task=passkey", f"examples={scored}/e.jsonl", f"outputs={scored}/o.jsonl"]
        assert main([*arguments, f"out={scored}/{name}"]) == 2
        assert "which is read here: writing would destroy it" in capsys.readouterr().err
        assert (scored / "e.jsonl").read_bytes() == before
    assert main(["score", "task=passkey", f"examples={scored}/e.jsonl", f"outputs={scored}/o.jsonl",
                 f"out={scored}/o.jsonl"]) == 2  # fmt: skip
    (scored / "text.txt").write_text("Some words. " * 99)
    essay = f"{scored}/text.txt"
    assert main([*DATA, "task.passkey.filler=essay", f"task.passkey.essay_path={essay}", f"out={essay}"]) == 2
    assert Path(essay).read_text() == "Some words. " * 99


def test_the_gate_replaces_no_record_and_not_one_file_by_the_other(tmp_path: Path, results: list[str], capsys) -> None:
    record = next((tmp_path / "new" / "runs").glob("*/metrics.json"))
    before = record.read_bytes()
    assert main([*results, "--junit", str(record)]) == 2 and record.read_bytes() == before
    assert "is a record of a run" in capsys.readouterr().err
    assert main([*results, "--junit", f"{tmp_path}/x", "--markdown", f"{tmp_path}/./x"]) == 2
    assert "name the same file" in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["", " ", ".", "{folder}", "x" * 300, "{file}/x", "{loop}", "a\0b"])
def test_names_that_cannot_be_written_are_refused_before_anything_runs(
    tmp_path: Path, results: list[str], capsys, name: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    given = name.format(folder=tmp_path, file=tmp_path / "file", loop=tmp_path / "loop")
    for command in ([*results, "--markdown", given], [*results, "--junit", given], [*DATA, f"out={given}"]):
        assert main(command) == 2
        said = capsys.readouterr()
        assert said.err.startswith("heed: ") and said.err.count("\n") == 1 and len(said.err) < 400 and not said.out
    with pytest.raises(UserError):
        output("out=", given)


@pytest.mark.parametrize("name", ["", " ", "{file}", "x" * 300, "{file}/x"])
def test_folders_that_cannot_be_written_are_refused_before_anything_runs(tmp_path, results, capsys, name) -> None:
    (tmp_path / "file").write_text("x")
    given = name.format(file=tmp_path / "file")
    for command in (
        ["report", results[2], "--out", given],
        ["export", "--format", "lm-eval", "--results", results[2], "--out", given],
        [*DATA, f"out={tmp_path}/fresh.jsonl", f"folder={given}"],
    ):
        assert main(command) == 2
        said = capsys.readouterr()
        assert said.err.startswith("heed: ") and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "fresh.jsonl").exists()


def test_a_file_from_stdin_is_read_once_where_that_is_enough(scored: Path) -> None:
    command = [sys.executable, "-m", "harness.cli", "score", "task=passkey", f"examples={scored}/e.jsonl",
               "outputs=/dev/stdin", f"out={scored}/s.json"]  # fmt: skip
    content = (scored / "o.jsonl").read_bytes()
    done = subprocess.run(command, input=content, capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and json.loads((scored / "s.json").read_text())["metrics"]["accuracy"] == 1.0
