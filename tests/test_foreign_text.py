"""Text from outside (labels, ids, names, data, checkpoints) is only text where it is printed: no escape sequence, no mark
that turns a line around, no markup reaches the terminal, and none of it ends a command.
"""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

from harness.cli import main
from harness.commands.progress import Bar
from harness.records.store import CellStore
from harness.running.settings import Outcome
from harness.terminal.printing import Terminal
from harness.terminal.visible import line, plain, visible

ROOT = Path(__file__).parents[1]
EVIL = "\x1b[2J\x1b]0;owned\x07[/nope] [bold]\u202egnp.exe\ud800\x9b31m"
SIGNS = ("\x1b", "\x07", "\x9b", "\u202e", "\ud800")
LABELS = [EVIL, "[/nope]", "[bold red]x[/]", ":smile:", "\u2066a\u2069", "a\rb", "a" * 5000]


def clean(*texts: str) -> str:
    """What was printed, with nothing in it that a terminal acts on (the console itself prints no colours into a pipe)."""
    text = "".join(texts)
    assert not any(sign in text for sign in SIGNS), ascii(text)
    return text


def stored(root: Path, label: str) -> Path:
    """A results folder whose labels, metric, groups, texts and failures are `label`."""
    facts = {"metrics": [{"name": f"accuracy {label[:40]}", "higher_is_better": True}], "by": ["length"]}
    identity = {"task": {"params": {}}, "decoding": {"search": "greedy"}, "seed": 0}
    config = {"identity": identity, "labels": {"model": label, "method": label, "task": label}, "task_facts": facts}
    row = {
        "cluster": "",
        "meta": {"length": label},
        "text": label,
        "references": [label],
        "flags": [],
        "prompt_sha256": "p",
    }
    rows = [row | {"id": f"{label}{i}", "metrics": {f"accuracy {label[:40]}": i % 2}} for i in range(8)]
    with CellStore(root, "done-1", config | {"identity": identity | {"method": {"name": label}}}) as store:
        store.append(rows)
        store.finish({"n": 8})
    other = config | {"labels": config["labels"] | {"method": f"other {label}"}}
    with CellStore(root, "done-2", other | {"identity": identity | {"method": {"name": f"other {label}"}}}) as store:
        store.append(rows)
        store.finish({"n": 8})
    with CellStore(root, "failed-1", config | {"labels": config["labels"] | {"method": f"failed {label}"}}) as store:
        store.fail("UserError", label)
    return root


@pytest.mark.parametrize("label", LABELS, ids=range(len(LABELS)))
def test_labels_and_reasons_in_records_are_text_to_every_reader(tmp_path, capsys, label) -> None:
    old, new = stored(tmp_path / "old", label), stored(tmp_path / "new", label)
    for command in (
        ["status", "--results", str(new)],
        ["report", str(new), "--out", str(tmp_path / "board")],
        ["gate", "--baseline", str(old), "--candidate", str(new)],
        ["gate", "--baseline", str(old), "--candidate", str(new), "--markdown", "/dev/stdout"],
        ["compare", label, f"other {label}", "--results", str(new)],
        ["export", label, "--format", "lm-eval", "--results", str(new), "--out", str(tmp_path / "export")],
        ["status", f"results={new}"],
    ):
        code = main(command)
        said = capsys.readouterr()
        text = clean(said.out, said.err)
        assert code in (0, 2) and "MarkupError" not in text, (command, text)


def test_a_message_that_quotes_a_name_prints_it_as_signs(tmp_path, capsys) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text(json.dumps({"model_type": EVIL, "architectures": [EVIL]}))
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": EVIL.replace("\ud800", ""), "text": "1"}) + "\n")
    (tmp_path / "e.jsonl").write_text(json.dumps({"id": "a", "prompt": "x", "references": ["12345"]}) + "\n")
    instances = {"images": [{"id": 1, "file_name": "\x1b[2Ja.png"}], "annotations": [{"image_id": 1, "category_id": 1}],
                 "categories": [{"id": 1, "name": "\x1b[2J\u202edog"}]}  # fmt: skip
    (tmp_path / "i.json").write_text(json.dumps(instances))
    (tmp_path / "k.json").write_text(json.dumps({"annotations": [{"image_id": 1, "caption": "x"}]}))
    coco = f"task.{{0}}.images={tmp_path} task.{{0}}.instances={tmp_path}/i.json"
    for command in (
        f"run model={tmp_path}/c results={tmp_path}/r",
        f"score task=passkey examples={tmp_path}/e.jsonl outputs={tmp_path}/o.jsonl out={tmp_path}/s",
        f"data task=chair task.chair.source=files {coco.format('chair')} task.chair.captions={tmp_path}/k.json out={tmp_path}/s",
        f"data task=pope task.pope.k=1 {coco.format('pope')} out={tmp_path}/s",
    ):
        assert main(command.split()) == 2
        text = clean(*capsys.readouterr())
        assert "\u241b" in text or "U+" in text, text


def test_a_results_folder_with_a_strange_name_is_printed_as_text(tmp_path, capsys) -> None:
    folder = tmp_path / "[bold]x[" / "\x1b[2J"
    settings = ["task.passkey.lengths=[256]", "task.passkey.depths=[0]", "task.passkey.trials=1", "efficiency=off"]
    assert main(["run", *settings, "tracking=disabled", f"results='{folder}'"]) == 0
    text = clean(capsys.readouterr().out)
    assert "[bold]x[" in text.replace("\n", "") and "\u241b[2J" in text.replace("\n", "")


class Cell:
    label = "\x1b[2J[/nope]"


def test_progress_labels_are_text() -> None:
    file = io.StringIO()
    with Bar(Terminal(file=file, force_terminal=True, width=80, color_system=None), 2) as bar:
        bar.note("loading [/nope]\x1b]0;owned\x07")
        bar.start(Cell.label, 10, 0)
        bar._bar.refresh()
        bar.finish(Outcome(Cell(), "done", ""))  # type: ignore[arg-type]
    assert "[1/2] \u241b[2J[/nope]: done" in file.getvalue() and "\x1b]0" not in file.getvalue()
    assert "\x1b[2J[/nope]" not in file.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_the_terminal_shows_what_it_can_and_never_acts_on_it(encoding: str) -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    terminal = Terminal(file=raw, width=100)
    table = Table(title=EVIL)
    table.add_column(EVIL, footer=EVIL)
    table.add_row(EVIL)
    for shown in (table, EVIL, Progress(console=terminal)):
        terminal.print(shown, style="bold")
    raw.seek(0)
    text = clean(raw.read())
    assert text.count("[/nope]") >= 3


def test_one_line_stays_one_line_and_lines_stay_lines() -> None:
    assert plain(f" a\n\tb{EVIL[:4]}") == "a b\u241b[2J" and line("x" * 500) == "x" * 400 + "..."
    assert visible("a\n\tb") == "a\n\tb"


def test_nothing_prints_past_the_terminal() -> None:
    """Every console is a `Terminal`, and no bar takes a description for markup."""
    wrong = []
    for file in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]:
        for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
            name, source = getattr(call.func, "id", ""), ast.unparse(call)
            if name == "Console" or (name == "TextColumn" and "description" in source and "markup=False" not in source):
                wrong.append(f"{file.name}:{call.lineno}")
    assert not wrong
