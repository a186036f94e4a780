"""The figure of late hallucination: its numbers, and that its files are written."""

from __future__ import annotations

from pathlib import Path

from tasks.chair import Chair
from tasks.chair.figures import halves
from tests.tasks.chair.material import example

TASK = Chair()


def row(caption: str | None) -> dict:
    score = TASK.score(example(["dog", "person"]), caption)
    return {"id": "1", "meta": {}, "metrics": dict(score.metrics), "method": "dense"}


ROWS = [row("A dog and two cats."), row("A cat by a dog."), row(None), row("")]


def test_halves_are_counted_by_the_place_of_each_object() -> None:
    first, second = halves(ROWS)  # dog | cat in the first caption, cat | dog in the second
    assert (first.nodes, first.hallucinated, second.nodes, second.hallucinated) == (2, 1, 2, 1)
    assert halves([row("A dog and two cats.")])[1].share == 1.0 and halves([row("")])[0].share == 0.0


def test_a_picture_and_its_numbers_are_written(tmp_path: Path) -> None:
    written = TASK.figures(ROWS, tmp_path / "figures")
    assert [path.name for path in written] == ["chair.png", "chair.csv"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert written[1].read_text().splitlines() == [
        "words,nodes,hallucinated,share", "first half,2,1,0.5", "second half,2,1,0.5",
    ]  # fmt: skip


def test_rows_without_captions_draw_nothing(tmp_path: Path) -> None:
    assert TASK.figures([row(None)], tmp_path / "figures") == [] and not (tmp_path / "figures").exists()
