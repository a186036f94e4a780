"""`heed report` on stored results, good and bad: what is wrong is named, nothing is dropped silently, nothing crashes."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from html import unescape
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rich.console import Console

from harness.analysis.board_rows import rows_for_table
from harness.analysis.compare import incomparable
from harness.analysis.gate import Rules, judge
from harness.claims import decide, load
from harness.cli import main
from harness.commands.compare import match
from harness.contracts.metric import Metric
from harness.errors import UserError
from harness.records import published
from harness.records.cells import read_cells
from harness.report import markdown, page, table_csv
from harness.report.board import Board, board
from harness.report.examples import KEPT, SCANNED, TEXT
from harness.report.notes import notes
from harness.report.page_data import dumps, pages
from harness.report.pareto import front, fronts
from harness.report.status import read_status
from harness.report.terminal import render
from harness.terminal.printing import Terminal
from harness.terminal.visible import cut, line, visible
from harness.tracking.payload import payload
from tests.report.stored import ACC, CHAIR, HOSTILE, grid, row, seal, store, write


def reported(root: Path) -> Board:
    return board(read_cells(root))


def embedded(html: str) -> dict[str, Any]:
    """The data of a page."""
    return {name: json.loads(text) for name, text in embedded_texts(html)}


def embedded_texts(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', html, flags=re.S)


def kinds(found: Board) -> dict[str, list[str]]:
    return {one.row["method"]: [alarm.kind for alarm in one.alarms] for one in found.lines}


# -- the command -----------------------------------------------------------------------------------------------------


def test_three_files_are_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, "dense", grid(0.9))
    assert main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    for name in ("index.html", "leaderboard.md", "leaderboard.csv"):
        assert (tmp_path / "leaderboard" / name).stat().st_size > 0
        assert name in told
    assert "1 cells: 1 done" in told
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "index.html").exists()


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_an_empty_or_missing_folder_says_how_to_get_a_first_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["report", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert "heed run" in told and "Traceback" not in told


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    dense = grid(0.9)
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", grid(0.5, seed=1), dense)
    assert page.render(reported(tmp_path)) == page.render(reported(tmp_path))


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    store(tmp_path, "dense", grid(0.9))
    html = page.render(reported(tmp_path))
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", html)
    assert "default-src 'none'" in unescape(html) and "unsafe" not in html
    assert "@import" not in html and "url(" not in html


# -- bad input -------------------------------------------------------------------------------------------------------


def test_an_older_schema_is_named(tmp_path: Path) -> None:
    folder = store(tmp_path, "power", grid(0.9))
    write(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"schema": 0})
    found = reported(tmp_path)
    assert found.counts == {"damaged": 1}
    assert "layout version 0" in found.problems[0].reason
    assert found.problems[0].name == "micro / passkey / power"  # it can still say whose it is
    write(folder / "config.json", {"schema": 0, "labels": ["power"]})
    assert str(folder) in reported(tmp_path).problems[0].name


def test_a_half_written_cell_is_unfinished_and_shows_no_number(tmp_path: Path) -> None:
    folder = store(tmp_path, "power", grid(0.9))
    (folder / "DONE").unlink()
    (folder / "metrics.json").unlink()
    (folder / "samples.jsonl").write_bytes((folder / "samples.jsonl").read_bytes()[:-20])
    found = reported(tmp_path)
    assert [p.status for p in found.problems] == ["unfinished"]
    assert found.lines[0].scan.seen == 39
    assert "unfinished" in markdown.render(found)
    (folder / "samples.jsonl").write_text("garbage\n")
    assert [p.status for p in reported(tmp_path).problems] == ["unfinished", "damaged"]


def test_two_cells_with_one_id_and_different_content_are_named_and_not_shown(tmp_path: Path) -> None:
    a, b = (store(tmp_path / name, "power", grid(rate)) for name, rate in (("a", 0.9), ("b", 0.2)))
    found = board(read_cells(tmp_path / "a", tmp_path / "b"))
    assert found.counts == {"damaged": 1}
    assert str(a) in found.problems[0].reason and str(b) in found.problems[0].reason
    assert json.loads(dumps(pages(found)["main"]))["rows"][0].get("value") is None


def test_failed_and_refused_cells_stand_with_their_reasons(tmp_path: Path) -> None:
    for name, kind in (("opera", "Unsupported"), ("quest", "NotEngaged")):
        folder = store(tmp_path, name, grid(0.9))
        (folder / "DONE").unlink()
        write(folder / "metrics.json", {"n": 0, "failure": {"kind": kind, "message": f"{name} cannot"}})
    found = reported(tmp_path)
    assert {p.status: p.reason for p in found.problems} == {
        "refused": "opera cannot",
        "failed": "NotEngaged: quest cannot",
    }
    assert "opera cannot" in markdown.render(found) and "opera cannot" in table_csv.render(found)


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    folder = store(tmp_path, "power", grid(0.9))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["values"]["accuracy"] |= {"value": float("nan"), "low": float("-inf"), "high": None}
    write(folder / "metrics.json", metrics | {"nonfinite": ["usage.density"]})
    seal(folder)
    write(folder / "efficiency.json", {"ttft_ms": float("inf")})
    found = reported(tmp_path)
    alarm = found.lines[0].alarms[0]
    assert alarm.kind == "not finite"
    assert all(
        key in alarm.text for key in ("values.accuracy.value", "values.accuracy.low", "usage.density", "ttft_ms")
    )
    for text in (page.render(found), markdown.render(found), table_csv.render(found)):
        assert "not finite" in text
    for text in dict(embedded_texts(page.render(found))).values():
        json.loads(text, parse_constant=pytest.fail)  # strict JSON has no NaN


@pytest.mark.parametrize("seed", [0, 1])
def test_any_malformed_record_is_named_and_hides_no_other(tmp_path: Path, seed: int) -> None:
    """One value of a good cell is replaced by junk, 200 times."""
    rng, dense = Random(seed), grid(0.9)
    store(tmp_path, "dense", dense)
    junk: list[Any] = [None, "x", "", [], [1], {}, {"a": 1}, -1, 10**400, True, 1e308, "<script>"]
    for i in range(200):
        folder = store(tmp_path, f"m{i}", grid(0.5, 10, seed=1), dense, density=0.5)
        file = folder / rng.choice(
            ["config.json", "metrics.json", "efficiency.json", "provenance.json", "samples.jsonl"]
        )
        if file.name == "samples.jsonl":
            rows = [json.loads(text) for text in file.read_text().splitlines()]
            _spoil(rows[0], rng, junk)
            file.write_text("".join(json.dumps(r) + "\n" for r in rows))
        else:
            stored = json.loads(file.read_text())
            _spoil(stored, rng, junk)
            write(file, stored)
        seal(folder)
    found = reported(tmp_path)
    assert sum(found.counts.values()) == 201
    named = {p.run_id for p in found.problems} | {one.cell.run_id for one in found.lines}
    assert named == {folder.name for folder in (tmp_path / "runs").iterdir()}
    data = embedded(page.render(found))
    assert len(data["main"]["rows"]) == len(found.lines)
    markdown.render(found)
    table_csv.render(found)
    agree(tmp_path, {p.run_id for p in found.problems if p.status == "damaged"})


def agree(root: Path, damaged: set[str]) -> None:
    """Every other reader takes the folder, and none takes a damaged cell for a result."""
    cells = read_cells(root)
    bad = {cell.run_id for cell in cells if cell.problem}
    assert bad <= damaged  # the report also reads the samples
    assert {row["run_id"] for row in rows_for_table(cells) if row["status"] == "damaged"} == bad
    render(cells, Terminal(file=io.StringIO(), width=100))
    assert {c.run_id for sweep in read_status(root) for c in sweep.cells if c.state == "damaged"} == bad
    assert all(
        v.outcome == "not comparable" for v in judge(root, root, Rules(0.01, 1.25)) if "damaged" in str(v.reasons)
    )
    named = [c.labels["method"] for c in cells if c.run_id in bad and c.labels]
    pairings = match("dense", named[0], root, cells) if named else []
    assert all("damaged" in " ".join(incomparable(x, y)) for _, x, y in pairings)
    done = [cell for cell in cells if cell.done]
    assert bad.isdisjoint(cell.run_id for cell in done)
    [payload(cell) for cell in done]
    published.rows({"rows": {"dense": {"passkey": {"accuracy": 50.0}}}}, cells)
    decide([c for c in load() if c.check is None], cells)


def _spoil(node: Any, rng: Random, junk: list[Any]) -> None:
    """Replace one value somewhere inside."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = rng.choice(list(keys))
    inner = node[key]
    if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
        _spoil(inner, rng, junk)
    else:
        node[key] = rng.choice(junk)


# -- hostile and large text ------------------------------------------------------------------------------------------


def test_text_from_outside_cannot_leave_its_place(tmp_path: Path) -> None:
    rows = [row(f"{HOSTILE} {i}", HOSTILE, accuracy=1.0) for i in range(3)]
    store(tmp_path, HOSTILE, rows, model=HOSTILE, task=HOSTILE, preset=HOSTILE)
    found = reported(tmp_path)
    html = page.render(found)
    assert html.count("</script>") == html.count("<script")  # none but our own
    assert "<script>window.pwned" not in html and "<img" not in html
    assert not set("\u202e\u2066\x00\x1b\u2028") & set(html)
    assert embedded(html)["cell-0"]["examples"][0]["t"].startswith("</script><script>window.pwned=1")
    assert not re.search(r"<(?!/?sub)[a-z/!]", markdown.render(found))
    fields = list(csv.DictReader(table_csv.render(found).splitlines()))
    assert len(fields) == 1 and "\x00" not in fields[0]["method"]


def test_markdown_keeps_its_columns_and_csv_holds_no_formula(tmp_path: Path) -> None:
    store(tmp_path, "a|b\n[x](http://evil.example) `c` **d**", grid(0.9))
    store(tmp_path, "=HYPERLINK(1)", grid(0.9, seed=3), task="@SUM(1)")
    found = reported(tmp_path)
    lines = [text for text in markdown.render(found).splitlines() if text.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", text)) for text in lines}) == 1
    assert not re.search(r"(?<!\\)\]\(", markdown.render(found)) and "://" not in markdown.render(found)
    for fields in csv.reader(table_csv.render(found).splitlines()):
        assert not any(field.startswith(("=", "@", "+")) for field in fields)


def test_a_ten_megabyte_answer_is_cut_and_says_so(tmp_path: Path) -> None:
    size = 10_000_000
    dense = [row("e1", "b" * size, accuracy=1.0), row("e2", "same", accuracy=1.0)]
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", [row("e1", "\u202e" * size, accuracy=0.0), row("e2", "same", accuracy=1.0)], dense)
    html = page.render(reported(tmp_path))
    assert len(html) < 300_000
    example = embedded(html)["cell-1"]["examples"][0]
    assert (example["c"], example["dc"], len(example["dt"])) == (size, size, TEXT)


def test_a_lone_surrogate_is_shown(tmp_path: Path) -> None:
    folder = store(tmp_path, "dense", [row("e", "x", accuracy=1.0)])
    (folder / "samples.jsonl").write_text(json.dumps(row("e", "a\ud800b", accuracy=1.0)) + "\n")
    seal(folder)
    assert "a\u27e6U+D800\u27e7b" in page.render(reported(tmp_path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x00\x1b[31m\x7f", "\u2400\u241b[31m\u2421"),
        ("\u202eabc\u202c", "\u27e6U+202E\u27e7abc\u27e6U+202C\u27e7"),
        (
            "\u2066\u200f\u200b\ufeff\x85\u2028",
            "".join(f"\u27e6U+{c}\u27e7" for c in ("2066", "200F", "200B", "FEFF", "0085", "2028")),
        ),
        (
            "\u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f468\u200d\U0001f469",
            "\u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f468\u200d\U0001f469",
        ),
        ("Z" + "\u0301" * 500 + "a\u0301b", "Z" + "\u0301" * 4 + "a\u0301b"),
        ("\U000e0041", "\u27e6U+E0041\u27e7"),
    ],
)
def test_invisible_characters_become_symbols(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_short_texts_are_whole_and_long_ones_say_their_length() -> None:
    assert cut("abc", 3) == ("abc", 0)
    assert cut("abcd", 3) == ("abc", 4)
    assert line("a\n\n  b") == "a b"
    assert line("x" * 500, 10) == "x" * 10 + "..."


def test_many_samples_are_streamed_and_never_held(tmp_path: Path) -> None:
    n = SCANNED + 5_000
    store(tmp_path, "dense", [row("e", "x")])
    folder = next((tmp_path / "runs").iterdir())
    text = json.dumps(row("ID", "y" * 600))
    with (folder / "samples.jsonl").open("w") as file:
        file.writelines(text.replace("ID", f"e{i}") + "\n" for i in range(n))
    write(folder / "metrics.json", json.loads((folder / "metrics.json").read_text()) | {"n": n})
    seal(folder)
    cells = read_cells(tmp_path)
    tracemalloc.start()
    found = board(cells)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
    scan = found.lines[0].scan
    assert (scan.seen, scan.more, len(scan.examples)) == (SCANNED, True, KEPT)
    assert any("first 20,000 samples" in text for text in pages(found)["main"]["left_out"])


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_disagreements_with_dense_come_first_and_stand_beside_it(tmp_path: Path) -> None:
    dense = [row(f"e{i}", "right", accuracy=1.0) for i in range(9)] + [row("e9", "wrong", accuracy=0.0)]
    ours = [row(f"e{i}", "right", accuracy=1.0) for i in range(7)]
    ours += [row("e7", "Right!", accuracy=1.0), row("e8", "no", accuracy=0.0), row("e9", "right", accuracy=1.0)]
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", ours, dense)
    examples = pages(reported(tmp_path))["cell-1"]["examples"]
    assert [e["id"] for e in examples[:3]] == ["e8", "e9", "e7"]
    assert (examples[0]["t"], examples[0]["dt"], examples[0]["s"], examples[0]["ds"]) == ("no", "right", 0.0, 1.0)
    assert "dt" not in examples[3]  # the same text is not stored twice


def test_only_the_same_prompt_is_compared(tmp_path: Path) -> None:
    dense = [row("e1", "a", accuracy=1.0)]
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", [row("e1", "b", accuracy=0.0) | {"prompt_sha256": "another"}], dense)
    found = reported(tmp_path)
    assert found.lines[1].scan.compared == 0
    assert "ds" not in pages(found)["cell-1"]["examples"][0]


def test_different_settings_are_different_blocks_and_say_what_differs(tmp_path: Path) -> None:
    for limit in (10, 20):
        identity = {"task": {"params": {"n": limit}}, "limit": limit}
        store(tmp_path, "dense", grid(0.9, limit), identity=identity)
        store(tmp_path, "power", grid(0.5, limit), grid(0.9, limit), identity=identity)
    found = reported(tmp_path)
    assert [len(block.lines) for block in found.blocks] == [2, 2]
    assert sorted(block.note for block in found.blocks) == ["n 10; 10 samples", "n 20; 20 samples"]


def test_two_variants_under_one_label_say_what_differs(tmp_path: Path) -> None:
    dense = grid(0.9)
    store(tmp_path, "dense", dense)
    for window in (4, 8):
        identity = {"method": {"target": "power", "params": {"window": window}}}
        store(tmp_path, "power", grid(0.5, seed=window), dense, identity=identity)
    found = reported(tmp_path)
    assert sorted(one.name for one in found.lines) == [
        "dense",
        "power (window 4)",
        "power (window 8)",
    ]
    assert r"power (window 8)" in markdown.render(found)


def test_alarms(tmp_path: Path) -> None:
    dense, good = grid(0.3, 60), grid(0.99, 60, seed=1)
    store(tmp_path, "dense", dense)
    store(tmp_path, "better", good, dense, density=0.5)
    store(tmp_path, "twin", dense, dense)
    store(tmp_path, "full", grid(0.3, 60, seed=2), dense, density=0.99)
    store(tmp_path, "steers", grid(0.3, 60, seed=2), dense, density=1.0, leaves_out=False)
    store(tmp_path, "sparse twin", dense, dense, density=0.2)
    mute = [r | {"flags": ["empty"]} if i < 6 else r for i, r in enumerate(grid(0.3, 60, seed=3))]
    store(tmp_path, "mute", mute, dense, density=0.2)
    assert kinds(reported(tmp_path)) == {
        "dense": [], "better": ["beats dense"], "twin": ["barely engaged"], "full": ["barely engaged"], "steers": [],
        "sparse twin": [], "mute": ["unknown answers"],
    }  # fmt: skip


def test_samples_that_are_denses_are_told_beside_the_number(tmp_path: Path) -> None:
    dense = grid(0.9)
    ours = [r | {"idle": True} if r["meta"]["length"] == 1024 else r for r in grid(0.4, seed=1)]
    store(tmp_path, "dense", dense)
    store(tmp_path, "snapkv", ours, dense, density=0.4)
    found = reported(tmp_path)
    assert kinds(found) == {"dense": [], "snapkv": ["partly dense"]}
    assert "(20 of 40 samples equal dense)" in markdown.render(found)
    assert [r["idle"] for r in csv.DictReader(table_csv.render(found).splitlines())] == ["0", "20"]
    assert pages(found)["main"]["rows"][1]["beside"] == "20 of 40 samples equal dense"
    (by_length,) = [g for g in pages(found)["block-0"]["groups"] if g["by"] == ["length"]]
    assert dict(zip([k for (k,) in by_length["keys"]], by_length["rows"][1]["e"], strict=True)) == {1024: 2, 2048: 0}
    raw = io.StringIO()
    render(read_cells(tmp_path), Console(file=raw, width=200))
    assert "(20 of 40 = dense)" in raw.getvalue()
    assert re.search(r"^1024 .* = dense ", raw.getvalue(), re.M) and "their answers are dense's" in raw.getvalue()


def test_a_method_that_changed_nearly_nothing_is_called_inactive(tmp_path: Path) -> None:
    """Two samples in which it acted in the decode, and then one call of many: the floor is half a percent."""
    dense = grid(0.9)

    def acting(changed: float) -> list[dict[str, Any]]:
        used = {
            "changed": changed,
            "phases": ["decode"] if changed else [],
            "layers_dense": [0, 1] if changed else [0, 1, 2],
        }
        return [r | {"usage": used} for r in grid(0.4, seed=1)[:-1]] + [
            r | {"usage": {"changed": None}} for r in dense[-1:]
        ]

    store(tmp_path, "dense", dense)
    store(tmp_path, "acts", acting(0.006), dense)
    store(tmp_path, "sleeps", acting(0.004), dense)
    found = reported(tmp_path)
    assert kinds(found) == {"dense": [], "acts": [], "sleeps": ["inactive"]}
    raw = io.StringIO()
    render(read_cells(tmp_path), Console(file=raw, width=200))
    assert (
        len(re.findall("^sleeps .* inactive", raw.getvalue(), re.M)) == 1
        and "inactive: the method changed" in raw.getvalue()
    )
    assert not re.search("^acts .* inactive", raw.getvalue(), re.M)
    (cell,) = [c for c in read_cells(tmp_path) if c.labels["method"] == "acts"]
    assert cell.metrics["acted"] == {
        "phases": ["decode"], "layers_dense": [0, 1], "changed": pytest.approx(0.006), "inactive": False,
    }  # fmt: skip


def test_a_task_states_the_level_of_chance_and_what_could_not_be_read(tmp_path: Path) -> None:
    facts = {"metrics": [{"name": "accuracy"}, {"name": "lost"}], "by": [], "chance": {}, "unreadable": ["lost"]}
    rows = [row(f"e{i}", f"{i}", accuracy=float(i % 2), lost=float(i < 4)) for i in range(40)]
    store(tmp_path, "dense", rows, metrics=(ACC, Metric("lost")), task_facts=facts)
    assert kinds(reported(tmp_path)) == {"dense": ["unknown answers"]}
    quarter = {"metrics": [{"name": "accuracy"}], "by": [], "chance": {"accuracy": 0.25}, "unreadable": []}
    store(tmp_path / "b", "dense", grid(0.25, 60, seed=2), task_facts=quarter)
    assert kinds(reported(tmp_path / "b")) == {"dense": ["at chance"]}


def test_chair_never_stands_without_recall_and_length(tmp_path: Path) -> None:
    rows = [row(f"e{i}", "a cat", chair_s=float(i % 2), chair_i=0.1, recall=0.5, length=20.0 + i) for i in range(10)]
    store(tmp_path, "dense", rows, task="chair", metrics=CHAIR)
    found = reported(tmp_path)
    assert pages(found)["main"]["rows"][0]["beside"] == "recall 50.00 %, length 24.5"
    head = next(text for text in markdown.render(found).splitlines() if text.startswith("| method"))
    assert head.startswith(r"| method | chair\_s % | recall % | length | n |")
    assert "recall=0.5" in table_csv.render(found)


def test_a_simulated_method_shows_no_speed_anywhere(tmp_path: Path) -> None:
    dense = grid(0.9)
    store(tmp_path, "dense", dense)
    store(
        tmp_path,
        "mask",
        grid(0.5, seed=1),
        dense,
        efficiency={"simulated": True, "ttft_ms": {"median": 777.0}, "decode_tokens_per_s": 888.0},
    )
    found = reported(tmp_path)
    for text in (page.render(found), markdown.render(found)):
        assert "simulated" in text and "777" not in text and "888" not in text
    fields = list(csv.DictReader(table_csv.render(found).splitlines()))
    assert (fields[1]["simulated"], fields[1]["ttft_ms"]) == ("True", "")
    assert set(found.blocks[0].fronts()["ttft_ms"].values().__iter__().__next__()) == {0}


def test_speeds_of_two_machines_are_never_on_one_front(tmp_path: Path) -> None:
    dense = grid(0.9)
    for name, machine, ms in (("dense", "A", 5.0), ("power", "A", 2.0), ("quest", "B", 1.0)):
        measured = {"ttft_ms": ms, "hardware": {"name": machine, "device": "cuda"}, "prompt_tokens": 512}
        store(tmp_path, name, dense, efficiency=measured)
    found = reported(tmp_path).blocks[0].fronts()["ttft_ms"]
    assert found == {"A, 512 prompt tokens": [1], "B, 512 prompt tokens": [2]}


def test_a_front_keeps_what_nothing_else_beats() -> None:
    points = [(1.0, 0.9), (0.5, 0.9), (0.2, 0.4), (0.3, 0.3), (0.2, 0.4)]
    assert front(points, low_x=True, high_y=True) == [2, 4, 1]
    assert front(points, low_x=False, high_y=True) == [0]
    assert front(points, low_x=True, high_y=False) == [2, 4, 3]
    assert front([], True, True) == []
    assert fronts([]) == {}


def test_groups_and_all_metrics_reach_the_page(tmp_path: Path) -> None:
    dense = grid(0.9, 60, lengths=3, depths=5)
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", grid(0.1, 60, seed=1, lengths=3, depths=5), dense)
    block = pages(reported(tmp_path))["block-0"]
    assert [group["by"] for group in block["groups"]] == [["length"], ["depth"], ["length", "depth"]]
    both = block["groups"][2]
    assert len(both["keys"]) == 15 and len(both["rows"][1]["v"]) == 15
    assert sum(block["groups"][0]["rows"][0]["n"]) == 60
    assert block["diffs"][1][0][3] == " *"  # significant


def test_what_too_few_examples_cannot_tell_is_marked_on_the_page_in_markdown_and_in_the_csv(tmp_path: Path) -> None:
    dense = grid(0.9, 4)
    store(tmp_path, "dense", dense)
    store(tmp_path, "power", grid(0.0, 4, seed=1), dense)
    found = reported(tmp_path)
    row = pages(found)["main"]["rows"][1]
    assert row["diffText"].endswith(" ?") and pages(found)["block-0"]["diffs"][1][0][3] == " ?"
    assert row["diffText"] in markdown.render(found) and "`?` too few clusters to tell" in markdown.render(found)
    (power,) = [line for line in csv.DictReader(io.StringIO(table_csv.render(found))) if line["method"] == "power"]
    assert (power["p"], power["significant"], power["untold"]) == ("", "False", "few clusters")


def test_provenance_is_told_once(tmp_path: Path) -> None:
    store(tmp_path, "dense", grid(0.9))
    store(tmp_path, "power", grid(0.5))
    found = reported(tmp_path)
    (environment,) = pages(found)["main"]["environments"]
    assert environment["cells"] == 2 and environment["facts"]["heed"] == "0.1.0"
    assert "c0ffee" in markdown.render(found) and "c0ffee" in table_csv.render(found)


def test_published_figures_stand_apart_with_the_measured_one_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"paper": "2502.03628", "table": "table 1", "model": "LLaVA", "protocol": "500 images", "task": "passkey", "metric": "accuracy",
             "setting": "", "value": 46.4, "unit": "percent", "read": "quoted", "suite": ""}  # fmt: skip

    def published(method: str) -> list[dict[str, Any]]:
        if method == "broken":
            raise UserError("broken.yaml is wrong")
        return [entry, entry | {"setting": "4K"}] if method == "power" else []

    monkeypatch.setattr("harness.report.papers.published", published)
    for name in ("dense", "power", "broken", "../../etc/passwd"):
        store(tmp_path, name, grid(0.9), grid(0.9))
    found = reported(tmp_path)
    main_part = pages(found)["main"]
    first, second = main_part["published"]
    assert first["value"] == "46.4 (percent)" and first["measured"].startswith("micro 87.50 [")
    assert first["source"] == "2502.03628, table 1 (quoted)"
    assert (second["metric"], second["measured"]) == ("accuracy, 4K", "-")
    assert "broken.yaml is wrong" in main_part["left_out"][0]
    text = markdown.render(found)
    assert "## Published figures" in text and "broken.yaml is wrong" in text


def test_notes_say_in_words_what_was_chosen_and_leave_out_what_follows_from_it() -> None:
    long = {
        "limit": None,
        "task": {"params": {"lengths": [512], "style": None, "a": 1, "b": True}, "provenance": {"x.y": "1"}},
    }
    short = {
        "limit": 5,
        "task": {"params": {"lengths": [256, 512], "style": "grid", "a": 2, "b": False}, "provenance": {"x.y": "2"}},
    }
    assert notes([long, short]) == [
        "a 1; b yes; lengths 512; 2 other settings",
        "a 2; b no; lengths 256, 512; 2 other settings",
    ]
    derived = [{"task": {"provenance": {"x.y": text}}} for text in ("plain", "0123456789abcdef")]
    assert notes(derived) == ["task provenance x y plain", "task provenance x y 01234567"]
    assert notes([long]) == [""]
