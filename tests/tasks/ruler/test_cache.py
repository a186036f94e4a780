"""Prepared examples on disk."""

from dataclasses import replace

import pytest

from harness.contracts.example import Skipped
from harness.contracts.question import Dialogue
from harness.running.examples import cache_key, prepared
from tasks.ruler import Ruler
from tests.toy import ByteTokens, WordTokens

TASK = Ruler(tasks=["vt", "cwe"], lengths=[512, 1024], samples=2)


@pytest.fixture
def counted(monkeypatch):
    """How often examples were built."""
    calls = []
    built = Ruler.examples
    monkeypatch.setattr(Ruler, "examples", lambda self, tokens: calls.append(1) or built(self, tokens))
    return calls


def test_the_second_use_reads_what_the_first_one_wrote(tmp_path, counted):
    first = prepared(TASK, ByteTokens(), tmp_path / "data", "code")
    assert prepared(TASK, ByteTokens(), tmp_path / "data", "code") == first
    assert len(counted) == 1 and len(first) == 8
    assert any(isinstance(item, Skipped) for item in first)
    assert prepared(TASK, ByteTokens(), None) == first


def test_a_question_of_another_kind_than_the_task_says_is_a_mistake_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(Ruler, "asks", Dialogue)
    with pytest.raises(TypeError, match="asks a Generate, where the task says Dialogue"):
        prepared(TASK, ByteTokens(), tmp_path)


def test_only_the_finished_file_is_left(tmp_path):
    prepared(TASK, WordTokens(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{cache_key(TASK, WordTokens())}.jsonl"]


@pytest.mark.parametrize("damage", ["torn", "edited", "empty", "bytes", "one line less"])
def test_a_damaged_file_is_built_anew(tmp_path, counted, damage):
    first = prepared(TASK, WordTokens(), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    spoilt = {
        "torn": whole[:-40],
        "edited": whole.replace(b"green", b"brown", 1),
        "empty": b"",
        "bytes": b"\xff" + whole,
        "one line less": b"\n".join(whole.split(b"\n")[1:]),
    }
    path.write_bytes(spoilt[damage])
    assert prepared(TASK, WordTokens(), tmp_path) == first
    assert len(counted) == 2 and path.read_bytes() == whole


def test_everything_that_decides_the_examples_is_in_the_key(tmp_path):
    essay = tmp_path / "essay.txt"
    essay.write_text("One. Two.")
    task = replace(TASK, essay_path=str(essay))
    keys = [
        cache_key(TASK, WordTokens()),
        cache_key(TASK, ByteTokens()),
        cache_key(TASK, WordTokens(), "other code"),
        cache_key(replace(TASK, seed=1), WordTokens()),
        cache_key(replace(TASK, params={"vt": {"hops": 2}}), WordTokens()),
        cache_key(task, WordTokens()),
    ]
    essay.write_text("One. Three.")
    keys.append(cache_key(task, WordTokens()))
    assert len(set(keys)) == len(keys)
    assert cache_key(TASK, WordTokens()) == keys[0]
