"""What the tracker is told, that it can never hurt a run, and what the real one writes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.store import CellStore, read_cells
from harness.tracking import wandb as tracking
from harness.tracking.base import logged_in, resolve_mode
from harness.tracking.payload import payload
from harness.tracking.wandb import sync, track
from tests.records.cells import add_cell, sample_rows
from tests.tracking.offline import read_back

DENSE, POWER = sample_rows(0.8), sample_rows(0.3, density=0.25)

FAKE = """
import json, os, time, sys
def say(**facts):
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(json.dumps(facts) + "\\n")
class Settings:
    def __init__(self, **k): pass
def Table(columns, data, **k): return ["table", columns, data]
def Image(path): return ["image", path]
class Run:
    def __init__(self): self.summary = self
    def log(self, d): say(log=d)
    def update(self, d): say(summary=d)
    def finish(self): say(finish=True)
def init(**k):
    BEHAVIOUR
    k.pop("settings")
    say(init=k)
    return Run()
"""


@pytest.fixture
def cell(tmp_path):
    add_cell(tmp_path, "dense", DENSE)
    return add_cell(tmp_path, "power", POWER, DENSE)


def dense_id(root, cell):
    """The run id of the other cell."""
    return next(c.run_id for c in read_cells(root) if c.run_id != cell.run_id)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a tracker with a given behaviour in the place of the real one; returns what it was told."""
    log, folder = tmp_path / "fake.log", tmp_path / "fake"

    def install(behaviour: str = "pass", source: str = FAKE):
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        (folder / "wandb" / "__init__.py").write_text(source.replace("BEHAVIOUR", behaviour))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("FAKE_LOG", str(log))
        return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return install


# -- whether to track ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "env", "expected"),
    [
        ("auto", {}, "disabled"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_MODE": "online"}, "online"),
        ("disabled", {"WANDB_API_KEY": "k"}, "disabled"),
        ("offline", {}, "offline"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
    ],
)
def test_the_mode(tmp_path, mode, env, expected):
    assert resolve_mode(mode, {"HOME": str(tmp_path), **env}) == expected


def test_a_wrong_mode_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'offline'"):
        resolve_mode("offlin")


def test_logged_in_looks_into_netrc_for_the_right_host(tmp_path):
    env = {"HOME": str(tmp_path)}
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password none\n")
    assert logged_in(env) and not logged_in({**env, "WANDB_BASE_URL": "https://other.example"})
    assert not logged_in({**env, "NETRC": str(tmp_path / "absent")})
    (tmp_path / ".netrc").write_text("machine\nnonsense \x00")
    assert not logged_in(env)


def test_disabled_imports_nothing_and_starts_nothing(cell, tmp_path):
    script = (
        "import sys; from pathlib import Path; from harness.records.store import read_cells\n"
        "from harness.tracking.wandb import sync, track\n"
        f"root = Path({str(tmp_path)!r})\n"
        "print(track(read_cells(root)[0], root, 'disabled'), sync(root, mode='disabled'))\n"
        "assert not {'wandb', 'torch', 'transformers'} & set(sys.modules), 'imported'\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "disabled Weights & Biases: 2 disabled"


# -- what is told ----------------------------------------------------------------------------------------------------


def test_the_payload_is_a_function_of_the_records(cell):
    got = payload(cell)
    assert got == payload(cell) and json.loads(json.dumps(got)) == got
    assert (got["id"], got["name"]) == (cell.run_id, "micro/power/passkey")
    assert got["config"]["identity"] == cell.config["identity"] and got["config"]["method"] == "power"
    values, summary = cell.metrics["values"]["accuracy"], got["summary"]
    assert (summary["accuracy"], summary["accuracy/low"]) == (values["value"], values["low"])
    assert summary["vs_dense/accuracy/significant"] is True and summary["n"] == 40
    assert (summary["ttft_ms"], summary["decode_tokens_per_s"], summary["peak_memory_bytes"]) == (12.5, 250, 3 * 2**29)
    assert summary["usage/density"] == 0.25 and summary["flags/empty"] == 4 and summary["kv_bytes_logical"] == 1 << 20
    assert got["columns"][:4] == ["length", "metric", "n", "value"] and [row[:3] for row in got["rows"]] == [
        ["1000", "accuracy", 20], ["2000", "accuracy", 20],
    ]  # fmt: skip


def test_a_simulated_method_has_no_speed(tmp_path):
    summary = payload(add_cell(tmp_path, "masked", POWER, simulated=True))["summary"]
    assert summary["simulated"] is True and "ttft_ms" not in summary and "peak_memory_bytes" in summary


def test_the_tracker_gets_config_table_pictures_and_numbers(cell, tmp_path, fake):
    told = fake()
    (cell.path / "figures").mkdir()
    (cell.path / "figures" / "heat.png").write_bytes(b"picture")
    (cell.path / "figures" / "heat.txt").write_text("no picture")
    status = track(cell, tmp_path, "offline", "proj", "sweep-1")
    assert status.ok and str(status) == "offline"
    init, log, summary, finish = told()
    assert init["init"] == {
        "project": "proj", "group": "sweep-1", "id": cell.run_id, "name": "micro/power/passkey", "resume": "allow",
        "mode": "offline", "dir": str(tmp_path), "config": payload(cell)["config"], "job_type": "cell",
    }  # fmt: skip
    assert log["log"]["breakdown"][0] == "table" and log["log"]["figures/heat"] == [
        "image",
        str(cell.path / "figures/heat.png"),
    ]
    assert summary["summary"] == payload(cell)["summary"] and finish["finish"]
    assert cell.done and read_cells(tmp_path)[1].done


# -- it can never hurt a run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("raise RuntimeError('server\\n down')", "wandb: server down"),
        ("raise SystemExit(3)", "exit code 3"),
        ("sys.stderr.write('last words'); os._exit(9)", "exit code 9): last words"),
        ("time.sleep(60)", "did not answer within 1 s"),
    ],
)
def test_a_tracker_that_raises_dies_or_hangs_is_one_sentence(cell, tmp_path, fake, behaviour, says):
    fake(behaviour)
    before = {p: p.read_bytes() for p in cell.path.iterdir() if p.is_file()}
    start = time.monotonic()
    status = track(cell, tmp_path, "online", timeout=1 if "sleep" in behaviour else 20)
    assert not status.ok and says in str(status) and "heed sync" in str(status) and "\n" not in str(status)
    assert time.monotonic() - start < 15 and all(p.read_bytes() == content for p, content in before.items())
    fake()
    assert "1 online" in str(sync(tmp_path, [cell.run_id], "online"))


def test_a_hanging_import_with_a_helper_that_holds_on_is_ended(cell, tmp_path, fake):
    source = "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)\n"
    fake(source=source)
    start = time.monotonic()
    assert "did not answer within 1 s" in str(track(cell, tmp_path, "offline", timeout=1))
    assert time.monotonic() - start < 10


def test_a_missing_tracker_is_one_sentence(cell, tmp_path, fake):
    fake(source="raise ModuleNotFoundError(\"No module named 'wandb'\", name='wandb')")
    assert "wandb is not installed" in str(track(cell, tmp_path, "offline"))


def test_one_cell_that_fails_does_not_stop_the_next(tmp_path, cell, fake):
    fake("if 'dense' in k['name']: raise RuntimeError('no')")
    report = sync(tmp_path, mode="offline")
    states = {s.run_id: s.state for s in report.statuses}
    assert states == {cell.run_id: "offline", dense_id(tmp_path, cell): "failed"} and not report.ok
    assert "1 failed, 1 offline" in str(report) and f"{dense_id(tmp_path, cell)}: not written" in str(report)


def test_a_process_that_cannot_start_is_one_sentence(cell, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr(tracking.subprocess, "Popen", refuse)
    assert "no more processes" in str(track(cell, tmp_path, "offline"))


def test_ctrl_c_ends_the_tracker_and_is_passed_on(cell, tmp_path, fake, monkeypatch):
    fake("time.sleep(60)")
    real, started = subprocess.Popen.wait, []

    def wait(self, timeout=None):
        if timeout is not None:
            started.append(self)
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(tracking.subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        track(cell, tmp_path, "offline")
    assert started[0].poll() is not None


def test_an_unfinished_cell_is_not_written(cell, tmp_path, fake):
    told = fake()
    (cell.path / "DONE").unlink()
    cells = {c.run_id: c for c in read_cells(tmp_path)}
    assert "not finished" in str(track(cells[cell.run_id], tmp_path, "offline"))
    assert len(sync(tmp_path, mode="offline").statuses) == 1
    assert [t["init"]["id"] for t in told() if "init" in t] == [dense_id(tmp_path, cell)]


# -- replay ----------------------------------------------------------------------------------------------------------


def test_replay_writes_only_what_changed(cell, tmp_path, fake):
    told = fake()
    assert track(cell, tmp_path, "offline", group="sweep-1").ok
    assert "1 kept, 1 offline" in str(sync(tmp_path, mode="offline"))
    assert "2 kept" in str(sync(tmp_path, mode="offline")) and "2 online" in str(sync(tmp_path, mode="online"))
    assert "2 offline" in str(sync(tmp_path, mode="offline", project="other"))
    assert "2 offline" in str(sync(tmp_path, mode="offline", force=True))
    with CellStore(tmp_path, cell.run_id, cell.config) as store:
        store.finish({**cell.metrics, "n_skipped": 7})
    assert "1 kept, 1 offline" in str(sync(tmp_path, mode="offline"))
    last = [t["init"] for t in told() if "init" in t][-1]
    assert (last["id"], last["group"]) == (cell.run_id, "sweep-1")  # the group is remembered
    (cell.path / "tracking.json").write_text("{")
    assert "1 kept, 1 offline" in str(sync(tmp_path, mode="offline"))


def test_replay_of_an_unknown_id_is_an_error(cell, tmp_path):
    with pytest.raises(UserError, match="no results for nope"):
        sync(tmp_path, ["nope"], mode="offline")
    assert "nothing finished" in str(sync(tmp_path / "empty", mode="offline"))


# -- the real one ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_tracker_offline_writes_a_file_that_can_be_read_back(cell, tmp_path, monkeypatch):
    from PIL import Image

    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (cell.path / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(cell.path / "figures" / "heat.png")
    report = sync(tmp_path, None, "offline", "proj", "sweep-1")
    assert "2 offline" in str(report)
    (file,) = tmp_path.glob(f"wandb/offline-run-*/run-{cell.run_id}.wandb")
    seen, told = read_back(file), payload(cell)
    assert (seen["id"], seen["project"], seen["group"]) == (cell.run_id, "proj", "sweep-1")
    assert seen["name"] == "micro/power/passkey" and seen["exit"] == 0
    assert {key: seen["config"][key] for key in told["config"]} == told["config"]
    assert {key: seen["summary"][key] for key in told["summary"]} == told["summary"]
    assert seen["history"]["accuracy"] == told["summary"]["accuracy"] and seen["history"]["decode_tokens_per_s"] == 250
    (table,) = file.parent.glob("files/media/table/breakdown*.json")
    stored = json.loads(table.read_text())
    assert stored["columns"] == told["columns"] and stored["data"] == told["rows"]
    assert list(file.parent.glob("files/media/images/figures/heat*.png"))
    (other,) = tmp_path.glob(f"wandb/offline-run-*/run-{dense_id(tmp_path, cell)}.wandb")
    assert read_back(other)["config"]["method"] == "dense"
