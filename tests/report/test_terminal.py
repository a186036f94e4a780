"""The table tells the truth in 80 columns, without colour, for good and for broken cells."""

from __future__ import annotations

import io
import json

import pytest

from harness.analysis.board_rows import rows_for_table
from harness.analysis.summarise import summarise
from harness.identity.run_id import run_id
from harness.records.store import CellStore, read_cells
from harness.report.numbers import size
from harness.report.terminal import render
from harness.terminal.printing import Terminal
from tests.records.cells import ACC, PPL, add_cell, sample_rows

DENSE = sample_rows(0.8, kv_bytes_logical=1000.0, kv_bytes_physical=1000.0)
POWER = sample_rows(0.3, density_prefill=0.25, density_decode=0.5, kv_bytes_logical=250.0, kv_bytes_physical=1000.0)


def printed(cells, width=100, encoding="ascii", color=None) -> str:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    render(cells, Terminal(file=raw, width=width, color_system=color, force_terminal=color is not None))
    raw.seek(0)
    return raw.read()


@pytest.fixture
def cells(tmp_path):
    add_cell(tmp_path, "power", POWER, DENSE, n_skipped=3)
    add_cell(tmp_path, "dense", DENSE)
    add_cell(tmp_path, "masked", sample_rows(1.0), DENSE, simulated=True, device="cuda")
    return read_cells(tmp_path)


def test_rows_are_a_function_of_the_records(cells):
    rows = rows_for_table(cells)
    assert [r["method"] for r in rows] == ["dense", "masked", "power"] and rows == rows_for_table(cells[::-1])
    power = rows[2]
    assert power["difference"]["significant"] and power["difference"]["value"] < 0 and not power["alarm"]
    assert (power["density_prefill"], power["density_decode"]) == (0.25, 0.5)
    assert (power["kv_logical"], power["kv_physical"], power["skipped"]) == (1.0, 1.0, 3)  # of the measured request
    assert (power["ttft_ms"], power["decode_tokens_per_s"], power["device"]) == (12.5, 250.0, "cpu")
    assert rows[1]["alarm"] and rows[1]["simulated"] and rows[0]["difference"] is None


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_it_fits_and_everything_is_there(cells, width):
    text = printed(cells, width)
    for part in ("micro / passkey", "accuracy %", "vs dense", "ALARM", "simulated", "0.25", "0.50", "cpu", "TTFT ms",
                 "tok/s", "1.5 GiB", "rss", "skip", "by length", "1000", "2000", "12.5", "250"):  # fmt: skip
        assert part in text, part
    assert all(
        len(line.rstrip()) <= width
        for line in text.splitlines()
        if not line.startswith(("*", "ALARM", "simu", "density:"))
    )
    assert "\x1b" not in text


def named(config, method):
    """The configuration of another method's cell."""
    labels, identity = {**config["labels"], "method": method}, {**config["identity"], "method": {"name": method}}
    return {**config, "labels": labels, "identity": identity}


def values(cells) -> list[str]:
    """Every number of the block and of its breakdown, as it is printed."""
    parts = [
        part
        for c in cells
        for part in (c.metrics["values"], c.metrics["vs_dense"] or {})
        for part in [part.get("accuracy")]
    ]
    parts += [g["values"]["accuracy"] for c in cells for g in c.metrics["groups"]]
    numbers = [f"{100 * p['value']:.2f}" for p in parts if p]
    return numbers + [f"{100 * p['low']:.1f}, " for p in parts if p] + [f"{100 * p['high']:.1f}]" for p in parts if p]


@pytest.mark.parametrize("width", [36, 40, 80, 120, 160])
def test_no_number_and_no_word_of_a_head_is_ever_broken(cells, width):
    text = printed(cells, width)
    assert all(number in text for number in values(cells))
    for word in (
        "accuracy %",
        "95 % interval",
        "vs dense",
        "density",
        "TTFT ms",
        "tok/s",
        "memory",
        "method",
        "by length",
    ):
        assert word in text, word


def test_from_120_columns_on_a_method_is_one_line_with_the_interval_beside_the_value(cells):
    lines = [row for row in printed(cells, 120).splitlines() if row.startswith("power")]
    power = next(c for c in cells if c.labels["method"] == "power")
    estimate = power.metrics["values"]["accuracy"]
    assert f"{100 * estimate['value']:.2f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]" in " ".join(
        lines[0].split()
    )
    assert len(lines) == 1 and "0.25 / 0.50" in lines[0] and "1.5 GiB" in lines[0]


def test_a_long_name_is_folded_before_anything_else_suffers(tmp_path):
    add_cell(tmp_path, "dense", DENSE)
    add_cell(tmp_path, "long-" * 20, POWER, DENSE)
    text = printed(read_cells(tmp_path), 120)
    assert text.count("95 % interval") == 2 and max(map(len, text.splitlines()[1:6])) <= 120
    assert "".join(line.split(" ")[0] for line in text.splitlines()[6:11]).startswith("long-" * 20)


def test_failed_unfinished_and_damaged_cells_say_why(tmp_path):
    dense = add_cell(tmp_path, "dense", DENSE)
    config = named(dense.config, "quest")
    with CellStore(tmp_path, run_id(config["identity"]), config) as store:
        store.fail("NotEngaged", "it changed nothing \x1b[31m[bold]" + "x" * 400)
    config = named(dense.config, "slow")
    CellStore(tmp_path, run_id(config["identity"]), config)
    (add_cell(tmp_path, "power", POWER, DENSE).path / "DONE").write_text("{")
    text = printed(read_cells(tmp_path), 80)
    assert (
        "quest failed: NotEngaged: it changed nothing \\u241b[31m[bold]" in " ".join(text.split())
        and "\x1b" not in text
    )
    assert "slow unfinished: the run stopped; run the same command again" in " ".join(text.split())
    assert "power damaged" in text and len(text.splitlines()) < 40
    assert "\x1b[31m" in printed(read_cells(tmp_path), 80, color="standard")


def test_a_folder_without_anything_is_still_shown(tmp_path):
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    assert "broken damaged" in printed(read_cells(tmp_path))
    assert printed([]) == ""


def test_a_metric_that_is_no_percentage(tmp_path):
    dense = add_cell(tmp_path, "dense", DENSE, metric=PPL, by=())
    power = add_cell(tmp_path, "power", POWER, DENSE, metric=PPL, by=())
    text = printed([power, dense], 130, encoding="utf-8")
    value = power.metrics["values"]["ppl"]["value"]
    assert "lower is better" in text and f"{value:.4g}" in text and "ppl %" not in text and "by length" not in text
    assert rows_for_table([power, dense])[1]["difference"]["value"] > 0 and "ALARM" not in text


def test_a_table_before_anything_was_measured(tmp_path):
    add_cell(tmp_path, "dense", DENSE, measured=False)
    rows = rows_for_table(read_cells(tmp_path))
    assert rows[0]["ttft_ms"] is None and rows[0]["kv_logical"] == 1.0
    assert printed(read_cells(tmp_path))
    empty = add_cell(tmp_path, "dense", [], task="empty")
    assert rows_for_table([empty])[0]["estimate"]["value"] is None and printed([empty])


def test_many_methods_are_spread_over_several_breakdowns(tmp_path):
    add_cell(tmp_path, "dense", DENSE)
    for i in range(8):
        add_cell(tmp_path, f"method-{i}", sample_rows(0.7, seed=i), DENSE)
    text = printed(read_cells(tmp_path), 80)
    assert text.count("by length") == 2 and all(
        len(line) <= 80 for line in text.splitlines() if not line.startswith("*")
    )


def test_sizes():
    assert [size(x) for x in (None, 0, 1023, 1536, 5 * 2**40)] == ["-", "0 B", "1023 B", "1.5 KiB", "5.0 TiB"]


# -- summarise -------------------------------------------------------------------------------------------------------

FACTS = {"metrics": [vars(ACC), {**vars(PPL), "added_later": 1}], "by": ["length", "unknown"]}


def test_the_summary_has_all_parts_and_any_order_gives_the_same_bytes():
    got = summarise(FACTS, POWER, DENSE, n_skipped=2)
    again = summarise(FACTS, POWER[::-1], DENSE[5:] + DENSE[:5], n_skipped=2)
    assert json.dumps(got) == json.dumps(again)
    assert (got["n"], got["n_skipped"], got["n_paired"], got["failure"]) == (40, 2, 40, None)
    assert set(got["values"]) == set(got["vs_dense"]) == {"accuracy", "ppl"}
    assert [(g["by"], g["n"]) for g in got["groups"]] == [({"length": 1000}, 20), ({"length": 2000}, 20)]
    assert got["groups"][0]["vs_dense"]["accuracy"]["n"] == 20
    usage = {"density_decode": 0.5, "density_prefill": 0.25, "kv_bytes_logical": 250.0, "kv_bytes_physical": 1000.0}
    assert got["usage"] == usage
    assert got["flags"] == {"empty": 4}


def test_only_examples_that_both_have_are_compared():
    got = summarise(FACTS, POWER[:30], DENSE[10:])
    assert got["n"] == 30 and got["n_paired"] == 20 and got["vs_dense"]["accuracy"]["n"] == 20
    assert summarise(FACTS, POWER, None)["vs_dense"] is None
    nothing = summarise(FACTS, [], [])
    assert nothing["n"] == 0 and nothing["values"]["accuracy"]["value"] is None and nothing["groups"] == []


# -- several metrics -------------------------------------------------------------------------------------------------


def test_significant_differences_of_every_metric_are_marked_and_reasons_told_elsewhere_are_left_out(tmp_path):
    from dataclasses import asdict

    facts = {"metrics": [asdict(ACC), asdict(PPL)], "by": []}
    for method, rows in (("dense", DENSE), ("power", POWER)):
        config = named({"labels": {"model": "m", "task": "t"}, "identity": {}, "task_facts": facts}, method)
        with CellStore(tmp_path, run_id(config["identity"]), config) as store:
            store.append(rows)
            store.finish(summarise(facts, rows, None if method == "dense" else DENSE))
    config = named(config, "quest")
    quest = run_id(config["identity"])
    with CellStore(tmp_path, quest, config) as store:
        store.fail("UserError", "the reason")
    cells = read_cells(tmp_path)
    for width in (40, 80, 200):
        lines = printed(cells, width).splitlines()
        table = lines[next(i for i, line in enumerate(lines) if line.startswith("all metrics")) :]
        row = next(line for line in table if line.startswith("power"))
        assert row.count("*") == 2, width
    ppl = next(c for c in cells if c.labels["method"] == "power").metrics["vs_dense"]["ppl"]
    below = next(line for line in table if line.startswith("  vs dense"))
    assert f"{ppl['value']:+.4g} [{ppl['low']:+.4g}, {ppl['high']:+.4g}]" in below
    assert "the reason" in printed(cells)
    out = io.StringIO()
    render(cells, Terminal(file=out, width=80), told={quest})
    assert "the reason" not in out.getvalue() and "failed" in out.getvalue()


def test_too_few_clusters_are_said_and_have_no_star(tmp_path):
    add_cell(tmp_path, "dense", DENSE[:4])
    add_cell(tmp_path, "power", [row | {"metrics": {"accuracy": 0.0}} for row in DENSE[:4]], DENSE[:4])
    text = printed(read_cells(tmp_path), 120)
    line = next(line for line in text.splitlines() if line.startswith("power"))
    assert " ? " in line and "*" not in text and "? too few clusters to tell" in text


def test_one_cluster_has_no_interval_and_says_why(tmp_path):
    add_cell(tmp_path, "dense", [row | {"cluster": "one"} for row in DENSE])
    assert "[few clusters]" in printed(read_cells(tmp_path), 120)


def test_records_without_reasons_are_read(tmp_path):
    """metrics.json of versions before the reasons: no interval, no p, no mark."""
    path = add_cell(tmp_path, "dense", DENSE).path / "metrics.json"
    old = json.loads(path.read_text())
    estimate = old["values"]["accuracy"] | {"low": None, "high": None}
    estimate.pop("reason")
    change = {"value": 0.5, "low": None, "high": None, "p": None, "significant": False, "test": "none", "n": 1}
    (record,) = read_cells(tmp_path)
    record.metrics.update(old | {"values": {"accuracy": estimate}, "vs_dense": {"accuracy": change}, "groups": []})
    text = printed([record])
    assert "[no interval]" in text and "?" not in text and "*" not in text
