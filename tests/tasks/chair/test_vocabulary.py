"""The vocabulary is the published one, and files of the same format take its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from tasks.chair.vocabulary import BUILTIN, DOUBLES, PAIRS, read
from tests.tasks.chair.material import nodes


def test_it_has_eighty_rows_and_every_word_once() -> None:
    rows = [line.split(", ") for line in BUILTIN.read_text().splitlines()]
    words = [word for row in rows for word in row]
    assert len(rows) == 80 and len(words) == len(set(words)) == len(read().nodes) == 403
    assert set(read().nodes.values()) == {row[0] for row in rows}


def test_the_digest_is_pinned() -> None:
    assert read().sha256 == "0ff28fded770907076137ab980720e498909cd99aa2beb8681de2907977f57d2"


def test_entries_that_can_never_match_are_part_of_it() -> None:
    known = read().nodes
    assert (known[" motor bike"], known[" cheesecake"], known["iPhone"]) == ("motorcycle", "cake", "cell phone")
    assert known["stove top oven"] == "oven" and "motor bike" not in known and "cheesecake" not in known
    assert nodes("A cheesecake, an iPhone, a stove top oven.") == ["oven", "oven"]  # `stove` and `oven`, apart


def test_spelling_errors_are_part_of_it() -> None:
    assert [read().nodes[word] for word in ("televison", "solider", "knive", "phon")] == [
        "tv", "person", "knife", "cell phone",
    ]  # fmt: skip


def test_gaps_are_gaps() -> None:
    assert nodes("A mug, a racquet, an aeroplane, a fisherman, a surfer, a plate and a glass.") == []


def test_the_pairs_are_those_of_the_reference() -> None:
    assert len(PAIRS) + 2 == 27  # and toilet seat, bow tie
    assert len(DOUBLES) == 27 + 1 + 24 + 2  # and wine glas, baby and adult X, passenger X
    assert (DOUBLES["bow tie"], DOUBLES["wine glas"], DOUBLES["adult cub"]) == ("tie", "wine glass", "cub")


def test_another_file_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("wheel, spoke\nbrake\n\n")
    own = read(str(tmp_path / "own.txt"))
    assert own.nodes == {"wheel": "wheel", "spoke": "wheel", "brake": "brake"} and own.sha256 != read().sha256


@pytest.mark.parametrize(
    ("content", "message"), [(b"\n", "is empty"), (b"\xff", "not UTF-8"), (None, "does not exist")]
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path / "own.txt"))
