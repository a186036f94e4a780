"""Tables: what a column holds, how they are averaged, stored, read back, drawn, and refused when they are damaged."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from harness.contracts.table import Column, Table, averaged
from harness.errors import UserError
from harness.records import tables
from harness.records.pictures import draw, panels
from harness.terminal.visible import spreadsheet

HEADS = (Column("layer", "layer"), Column("head", "head"), Column("score", unit="share", meaning="how much it copies"))
MAP = Table(HEADS, tuple((layer, head, layer + head / 10) for layer in range(3) for head in range(4)))
CURVES = Table(
    (Column("layer", "layer"), Column("attn", unit="rate"), Column("mlp", unit="rate"), Column("drop", unit="p")),
    ((0, 0.5, 0.25, 0.1), (1, 1.5, None, 0.2)),
)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("layer", -1), ("head", 1.0), ("position", True), ("number", float("nan")), ("number", "1"), ("text", 1)],
)
def test_a_column_refuses_what_is_not_of_its_kind(kind, value):
    with pytest.raises(ValueError, match=r"row 0 has .* in column 'x'"):
        Table((Column("x", kind),), ((value,),))


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 values for 3 columns"):
        Table(HEADS, ((0, 0, 0.5), (0,)))


def test_the_mean_is_over_rows_that_agree_in_all_but_the_numbers():
    rows = (("a", 1, 1.0), ("b", 1, 3.0), ("a", 0, 5.0), ("b", 0, None), ("b", None, None))
    table = Table((Column("example", "text"), Column("layer", "layer"), Column("score")), rows)
    assert averaged(table, without=("example",)).rows == ((0, 5.0), (1, 2.0))
    assert averaged(table).rows == (("a", 0, 5.0), ("a", 1, 1.0), ("b", 1, 3.0))


def test_tables_are_read_back_as_they_were_written(tmp_path: Path):
    written = tables.write(tmp_path, {"heads": MAP, "layers": CURVES})
    assert sorted(p.name for p in written) == ["heads.csv", "heads.json", "layers.csv", "layers.json"]
    assert tables.concluded(tmp_path) == {"heads": MAP, "layers": CURVES}
    assert tables.concluded(tmp_path / "nothing") == {}
    head, first, *_ = csv.reader(io.StringIO((tmp_path / "tables" / "heads.csv").read_text()))
    assert (head, first) == (["layer", "head", "score (share)"], ["0", "0", "0.0"])


@pytest.mark.parametrize("content", ['{"columns": []}', '{"columns": [{"name": "x"}], "rows": [["a"]]}', "[]", "{"])
def test_a_damaged_table_is_named(tmp_path: Path, content: str):
    tables.write(tmp_path, {"heads": MAP})
    (tmp_path / "tables" / "heads.json").write_text(content)
    with pytest.raises(UserError, match=r"heads\.json"):
        tables.concluded(tmp_path)


def test_no_text_in_a_csv_is_a_formula():
    text = tables.to_csv((Column("=name", "text"),), (("=1+1",), ("\x1b[2J",), (None,))).decode()
    assert text == "'=name\n'=1+1\n␛[2J\n\n".replace("\n\n", '\n""\n')
    assert spreadsheet(-0.5) == -0.5


def test_two_indices_make_a_map_one_makes_curves_and_none_makes_nothing():
    (found,) = panels(MAP)
    assert [axis.name for axis in found.axes] == ["layer", "head"] and found.series["score"][2, 3] == 2.3
    rate, drop = panels(CURVES)
    assert (rate.unit, dict(rate.series["attn"]), dict(rate.series["mlp"])) == (
        "rate",
        {(0,): 0.5, (1,): 1.5},
        {(0,): 0.25},
    )
    assert list(drop.series) == ["drop"]
    assert panels(Table((Column("score"),), ((1.0,),))) == [] and draw(Table(HEADS), "empty") is None


def test_texts_are_drawn_apart_and_equal_places_are_averaged():
    columns = (Column("layer", "layer"), Column("kind", "text"), Column("rate"))
    (found,) = panels(Table(columns, ((0, "a", 1.0), (0, "a", 3.0), (0, "b", 5.0))))
    assert {label: dict(places) for label, places in found.series.items()} == {
        "rate: a": {(0,): 2.0},
        "rate: b": {(0,): 5.0},
    }


def test_a_map_shows_every_value_at_its_place_and_grey_where_there_is_none():
    table = Table(HEADS, ((0, 0, 0.0), (1, 1, 1.0), (0, 1, 1.0)))
    drawn = draw(table, "a $title$ from outside\x1b")
    assert drawn is not None and drawn == draw(table, "a $title$ from outside\x1b")
    colours = {pixel[:3] for pixel in Image.open(io.BytesIO(drawn)).convert("RGB").getdata()}
    assert {(68, 1, 84), (253, 231, 36), (211, 211, 211)} <= colours  # viridis at both ends, and the ground
