"""The report: a matrix of means, and three files that show it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tasks.passkey import Passkey
from tasks.passkey.heatmap import matrix


def row(length: int, depth: int, accuracy: float, **more: Any) -> dict[str, Any]:
    meta = {"length": length, "depth": depth}
    return {"id": f"{length}-{depth}", "meta": meta, "metrics": {"accuracy": accuracy}, **more}


ROWS = [
    row(512, 0, 1, method="power"), row(512, 0, 0), row(512, 100, 1), row(512, 100, 1),
    row(256, 0, 1), row(256, 0, 1), row(256, 100, 1), row(256, 100, 1),
]  # fmt: skip


def test_the_matrix_has_depths_as_rows_from_the_top_and_sorted_lengths_as_columns() -> None:
    found = matrix(ROWS)
    assert (found.lengths, found.depths) == ([256, 512], [0, 100])
    assert found.matrix == [[1.0, 0.5], [1.0, 1.0]] and found.n == [[2, 2], [2, 2]]
    assert (found.row_means, found.column_means, found.mean) == ([0.75, 1.0], [1.0, 0.75], 0.875)


def test_the_reach_is_the_longest_length_with_nine_of_ten_right() -> None:
    assert matrix(ROWS).reach == 256
    assert matrix([row(64, 0, 0)]).reach is None
    assert matrix([row(64, d, float(d > 0)) for d in range(10)]).reach == 64


def test_the_order_of_the_rows_does_not_matter_and_holes_are_none() -> None:
    assert matrix(ROWS[::-1]) == matrix(ROWS)
    assert matrix([row(64, 0, 1), row(128, 50, 0)]).matrix == [[1.0, None], [None, 0.0]]


def test_figures_writes_picture_table_and_numbers(tmp_path: Path) -> None:
    paths = Passkey().figures(ROWS, tmp_path / "new")
    assert [p.name for p in paths] == ["passkey.png", "passkey.csv", "passkey.json"]
    assert paths[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with paths[1].open() as file:
        assert list(csv.reader(file)) == [
            ["depth", "256", "512", "mean"], ["0", "1.0", "0.5", "0.75"], ["100", "1.0", "1.0", "1.0"],
            ["mean", "1.0", "0.75", "0.875"],
        ]  # fmt: skip
    stored = json.loads(paths[2].read_text())
    assert (stored["reach"], stored["label"], stored["mean"]) == (256, "power", 0.875)


def test_a_length_on_which_the_method_could_not_act_is_marked(tmp_path: Path) -> None:
    rows = [r | {"idle": True} if r["meta"]["length"] == 256 else r for r in ROWS]
    assert matrix(rows).idle == [4, 0] and matrix(ROWS).idle == [0, 0]
    plain, marked = (Passkey().figures(of, tmp_path / name)[0] for of, name in ((ROWS, "plain"), (rows, "marked")))
    assert plain.read_bytes() != marked.read_bytes()  # "= dense" under the length


def test_figures_of_nothing_are_nothing(tmp_path: Path) -> None:
    assert Passkey().figures([], tmp_path) == []
    assert Passkey().figures([{"id": "1", "meta": {}, "metrics": {"accuracy": 1.0}}], tmp_path) == []
