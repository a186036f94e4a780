"""File systems that answer less reliably than a local disk: renames whose answer was lost, no locks, names that come late."""

from __future__ import annotations

import errno
import sys
import threading
from pathlib import Path

import pytest

from harness.records.cells import read_cell
from tests.faults.runs import records
from tests.faults.system import STORE, elsewhere, python, shim
from tests.records.test_store import CELL, finished_cell, row, store

__all__ = ["shim"]


@pytest.fixture
def whole(tmp_path: Path, shim: Path) -> dict[str, bytes]:
    assert python(STORE, tmp_path / "calm", env=elsewhere(shim)).returncode == 0
    return records(tmp_path / "calm")


@pytest.mark.parametrize("lost", [errno.ENOENT, errno.ESTALE])
def test_a_rename_that_was_done_and_reported_as_failed_is_believed(tmp_path, shim, whole, lost):
    done = python(STORE, tmp_path / "nfs", env=elsewhere(shim, RENAME=lost))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "nfs") == whole


@pytest.mark.parametrize(("code", "refuse"), [(errno.ENOENT, 1), (errno.EIO, 0)])
def test_a_rename_that_was_not_done_or_may_not_be_is_an_error(tmp_path, shim, whole, code, refuse):
    done = python(STORE, tmp_path / "nfs", env=elsewhere(shim, RENAME=code, REFUSE=refuse))
    assert (
        done.returncode == 1 and "UserError: cannot write" in done.stderr and "What was finished stays" in done.stderr
    )
    assert python(STORE, tmp_path / "nfs", env=elsewhere(shim)).returncode == 0
    assert records(tmp_path / "nfs") == whole


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_one_process_works_as_ever_and_is_warned(tmp_path, shim, whole, code):
    done = python(STORE, tmp_path / "nfs", env=elsewhere(shim, FLOCK=code))
    assert done.returncode == 0 and done.stderr.count("has no locks") == 1
    assert records(tmp_path / "nfs") == whole


TWO = """
import sys
from pathlib import Path
from tests.records.test_store import row, store
a, b = store(Path(sys.argv[1])), store(Path(sys.argv[1]))
a.append([row(0)])
b.append([row(1)])
try:
    a.append([row(2)])
except Exception as error:
    print(type(error).__name__, error)
b.append([row(2)])
b.close()
"""


def test_without_locks_a_second_process_is_noticed_before_anything_is_mixed(tmp_path, shim):
    done = python(TWO, tmp_path, env=elsewhere(shim, FLOCK=errno.ENOLCK))
    assert done.returncode == 0 and done.stdout.startswith("Busy another process wrote to"), done
    assert list(store(tmp_path).finished()) == ["e0", "e1", "e2"]


SHARDS = """
import sys
from pathlib import Path
from tests.records.test_shards import ORDER, batches_of, compute, shard
cells = [shard(Path(sys.argv[1]), i, 2) for i in range(2)]
for i, cell in enumerate(cells):
    compute(cell, batches_of(i, 2))
assert all(cell.merge(ORDER) for cell in cells), "nobody holds anybody back"
for cell in cells:
    cell.finish({"n": len(ORDER)})
"""


def test_without_locks_two_shards_that_both_join_leave_the_same(tmp_path, shim):
    from tests.records.test_shards import one_process, same

    calm = one_process(tmp_path / "calm")
    done = python(SHARDS, tmp_path / "nfs", env=elsewhere(shim, FLOCK=errno.ENOLCK))
    assert done.returncode == 0, done.stderr
    assert same(calm, tmp_path / "nfs" / "runs" / CELL)


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_name_that_becomes_visible_late_is_waited_for(tmp_path, name):
    path = finished_cell(tmp_path)
    hidden = path / name
    aside = hidden.rename(path / "aside")
    timer = threading.Timer(0.15, lambda: aside.rename(hidden))
    timer.start()
    try:
        assert store(tmp_path).done and (name == "metrics.json" or hidden.exists())
    finally:
        timer.join()
    assert read_cell(path).done and row(0)["id"] in store(tmp_path).finished()


def test_this_really_is_another_system(shim, tmp_path):
    """The preloaded answers reach Python: otherwise the tests above would show nothing."""
    code = (
        "import os, fcntl, time, sys\n"
        "open('a', 'w').close(); f = open('b', 'w')\n"
        "def code(call):\n"
        "    try: call()\n"
        "    except OSError as error: return error.errno\n"
        "print(code(lambda: os.replace('a', 'c')), code(lambda: fcntl.flock(f, fcntl.LOCK_EX)), os.path.exists('c'))\n"
        "print(time.time() > time.time())\n"
    )
    env = elsewhere(shim, RENAME=errno.ESTALE, FLOCK=errno.ENOLCK, CLOCK=1)
    done = python(f"import os; os.chdir({str(tmp_path)!r})\n{code}", env=env)
    assert done.stdout.split() == [str(errno.ESTALE), str(errno.ENOLCK), "True", "True"], (done, sys.version)
