"""Every file that a user hands in x every damage: exit code 2 and one paragraph that names the file, never a traceback.

The first table damages whole files, for the loaders and through the real commands. The second puts wrong values under every key of every
layout and asks the loaders alone, as there are some thousands of them: what is read is read, what is not is a
`UserError` that names file and key.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.contracts.question import Likelihood
from harness.errors import UserError
from harness.exchange.score import output_rows, read_examples
from tasks.chair import Chair
from tasks.chair.choice import read_ids
from tasks.coco import read_captions, read_instances
from tasks.passkey import Passkey
from tasks.perplexity import Perplexity, documents
from tasks.pope import Pope
from tasks.pope.loaders import load as read_questions
from tasks.recall import Recall
from tasks.ruler import Ruler
from tasks.ruler.documents import load_qa
from tasks.ruler.haystack import load_essay

# -- layouts ---------------------------------------------------------------------------------------------------------

SQUAD = {"data": [{"title": "T", "paragraphs": [
    {"context": "A b c.", "qas": [{"question": "What?", "answers": [{"text": "b"}], "is_impossible": False}]},
    {"context": "Other text.", "qas": []},
]}]}  # fmt: skip
HOTPOT = [
    {"_id": "x", "question": "Who?", "answer": "Me", "context": [["T", ["One. ", "Two."]], ["U", ["V."]]],
     "supporting_facts": [["T", 0]]},
]  # fmt: skip
INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [{"image_id": 1, "category_id": 18}, {"image_id": 2, "category_id": 1}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}
CAPTIONS = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "A dog."}]}
POPE = [{"question_id": 1, "image": "a.png", "text": "Is there a dog in the image?", "label": "yes"}]
POPE_V2 = [{"image_id": 1, "image_name": "/a.png", "query": "Is there a dog in the image?", "label": "No"}]
ROW = {
    "id": "a", "task": "", "split": "", "prompt": "x", "answer_prefix": "", "images": [], "turns": ["y"], "references": ["12345"],
    "max_new_tokens": 8, "cluster": "c", "meta": {"task": "vt", "length": 512, "depth": 0},
}  # fmt: skip
MESSAGES = ROW | {"prompt": [{"role": "user", "content": "x"}], "meta": {"others": ["x"]}}
PICTURE = ROW | {"images": ["a.png"], "references": ["yes"], "turns": [], "meta": {"gt": ["dog"], "splits": ["random"]}}
WINDOW = ROW | {"input_ids": [1, 2, 3], "n_scored": 2, "references": [], "meta": {"words": 1.5}}
OFFICIAL = {"index": 3, "input": "x", "outputs": ["y"], "answer_prefix": "", "length": 400}
INFINITE = {"id": 3, "context": "x", "input": "y", "answer": ["12345"], "options": []}
OUTPUT = {"id": "a", "text": "12345"}


@dataclass(frozen=True)
class Layout:
    """A file that is right, how a loader reads it, and the command that a user runs with it."""

    content: Any
    read: Callable[[Path], Any]
    command: str
    suffix: str = ".json"


def examples(task: Any) -> Callable[[Path], Any]:
    """Reads them, and scores an answer to each: what is read can be scored."""
    return lambda path: [(e, task.score(e, _some_answer(e.question))) for e in read_examples(task, path)]


def _some_answer(question: Any) -> Any:
    return [1.0] * question.n_scored if isinstance(question, Likelihood) else "12345"


def outputs(task: Any) -> Callable[[Path], Any]:
    return lambda path: output_rows(task, path)


FILES = "task.{0}.source=files task.{0}.images=. task.{0}.instances="
RULER = "data task=ruler task.ruler.samples=1 task.ruler.lengths=[512] task.ruler.tasks=[{}] task.ruler.{}={{file}}"
CHAIR = f"data task=chair {FILES.format('chair')}"
LAYOUTS = {
    "squad": Layout(SQUAD, lambda p: load_qa("squad", str(p)), RULER.format("qa_1", "squad_path")),
    "hotpot": Layout(HOTPOT, lambda p: load_qa("hotpotqa", str(p)), RULER.format("qa_2", "hotpot_path")),
    "ruler essay": Layout(
        {"text": "One. Two."}, lambda p: load_essay(str(p)), RULER.format("niah_single_2", "essay_path")
    ),
    "instances": Layout(INSTANCES, lambda p: read_instances([p]), CHAIR + "{file} task.chair.captions={captions}"),
    "captions": Layout(CAPTIONS, lambda p: read_captions([p]), CHAIR + "{instances} task.chair.captions={file}"),
    "pope instances": Layout(
        INSTANCES, lambda p: read_instances([p]), f"data task=pope {FILES.format('pope')}{{file}}"
    ),
    "ids": Layout(
        [1, "b_2.png"], read_ids, CHAIR + "{instances} task.chair.captions={captions} task.chair.ids={file}"
    ),
    "questions": Layout(
        POPE, lambda p: read_questions("random", p), "data task=pope task.pope.images=. task.pope.questions={file}", ".jsonl"
    ),
    "questions 2": Layout(
        POPE_V2, lambda p: read_questions("random", p), "data task=pope task.pope.images=. task.pope.questions={file}"
    ),
    "documents": Layout(
        [{"text": "one two"}, {"text": "three"}], lambda p: documents.load(str(p), "text"),
        "data task=perplexity task.perplexity.path={file}", ".jsonl",
    ),
    "examples": Layout([ROW], examples(Passkey()), "score task=passkey examples={file} outputs={outputs}", ".jsonl"),
    "dialogue": Layout([MESSAGES], examples(Recall()), "score task=recall examples={file} outputs={outputs}", ".jsonl"),
    "ruler row": Layout([OFFICIAL], examples(Ruler()), "score task=ruler examples={file} outputs={outputs}", ".jsonl"),
    "infinitebench": Layout(
        [INFINITE], examples(Passkey(style="infinitebench")), "score task=passkey examples={file} outputs={outputs}", ".jsonl"
    ),
    "chair row": Layout([PICTURE], examples(Chair()), "score task=chair examples={file} outputs={outputs}", ".jsonl"),
    "pope row": Layout([PICTURE], examples(Pope()), "score task=pope examples={file} outputs={outputs}", ".jsonl"),
    "window": Layout(
        [WINDOW], examples(Perplexity()), "score task=perplexity examples={file} outputs={outputs}", ".jsonl"
    ),
    "outputs": Layout([OUTPUT], outputs(Passkey()), "score task=passkey examples={examples} outputs={file}", ".jsonl"),
    "captions made": Layout([{"image_id": 1, "caption": "A dog."}], outputs(Chair()), "score task=chair outputs={file}"),
    "pope answers": Layout(
        [{"question_id": 1, "answer": "yes"}], outputs(Pope()), "score task=pope examples={examples} outputs={file}", ".jsonl"
    ),
}  # fmt: skip
TEXTS = {
    "passkey essay": "data task=passkey task.passkey.filler=essay task.passkey.essay_path={file}",
    "ruler text": RULER.format("niah_single_2", "essay_path"),
    "text": "data task=perplexity task.perplexity.path={file}",
    "synonyms": "data task=chair task.chair.synonyms={file}",
}


def stored(layout: Layout, content: Any) -> str:
    """The file's text; `@@1e999@@` stands for what `json.dumps` cannot write."""
    rows = content if layout.suffix == ".jsonl" and isinstance(content, list) else [content]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return re.sub(r'"@@(.*?)@@"', r"\1", text)


# -- whole files -----------------------------------------------------------------------------------------------------

RIGHT = b"Some text, caf\xc3\xa9. And more of it.\n"


def nothing(path: Path) -> None:
    """The file is missing."""


ANY: dict[str, Callable[[Path], Any]] = {
    "missing": nothing,
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "empty": lambda path: path.write_bytes(b""),
    "blank": lambda path: path.write_bytes(b" \n\n\t\n"),
    "latin-1": lambda path: path.write_bytes(RIGHT.decode().encode("latin-1")),
    "utf-16": lambda path: path.write_bytes(RIGHT.decode().encode("utf-16")),
    "utf-16 without a mark": lambda path: path.write_bytes("Some text.".encode("utf-16-le")),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}
JSON: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_bytes(RIGHT),
    "torn": lambda path: path.write_text('{"data": [{"title"'),
    "deep list": lambda path: path.write_text("[" * 100_000),
    "deep object": lambda path: path.write_text('{"text":' * 100_000),
    "deep and whole": lambda path: path.write_text('{"text":' + "[" * 900 + "]" * 900 + "}"),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("1e999"),
    "digits": lambda path: path.write_text("9" * 5000),
    "list of nothing": lambda path: path.write_text("[null]"),
    "object": lambda path: path.write_text("{}"),
}
LONG = "x" * 300


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Files that are right, for the arguments that are not under test."""
    right = {"instances": ("instances", "i.json"), "captions": ("captions", "c.json"), "outputs": ("outputs", "o.jsonl"),
             "examples": ("examples", "e.jsonl")}  # fmt: skip
    for kind, name in right.values():
        (tmp_path / name).write_text(stored(LAYOUTS[kind], LAYOUTS[kind].content))
    return {key: str(tmp_path / name) for key, (_, name) in right.items()}


def refused(command: str, path: Path, places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says: exit code 2, one paragraph that names the file."""
    capsys.readouterr()
    code = main(shlex.split(f"{command.format(file=path, **places)} out={path.parent}/out.json"))
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("heed: ") and said.count("\n") == 1 and "Traceback" not in said, said
    assert path.name[:40] in said and len(said) < 1600, said
    assert not (path.parent / "out.json").exists()
    return said


EXPECTED = {"latin-1": "not UTF-8", "utf-16": "UTF-16", "pipe": "a pipe|not? (a|regular) file|does not exist"}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_loader_refuses_every_damage_with_the_name_of_the_file(tmp_path, kind) -> None:
    layout = LAYOUTS[kind]
    for number, (damage, apply) in enumerate((ANY | JSON).items()):
        if (kind, damage) == ("ids", "number"):
            continue  # 1e999 is a name that ends in a number there
        path = tmp_path / str(number) / f"mine{layout.suffix}"
        path.parent.mkdir()
        apply(path)
        with pytest.raises(UserError, match=EXPECTED.get(damage, ".")) as caught:
            layout.read(path)
        assert str(path.parent) in str(caught.value) and len(str(caught.value)) < 1000, damage


@pytest.mark.parametrize("damage", ["pipe", "latin-1", "deep list"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_command_refuses_a_damaged_file_with_its_name(tmp_path, capsys, places, kind, damage) -> None:
    layout = LAYOUTS[kind]
    path = tmp_path / f"mine{layout.suffix}"
    (ANY | JSON)[damage](path)
    assert re.search(EXPECTED.get(damage, "."), refused(layout.command, path, places, capsys))


@pytest.mark.parametrize("damage", ANY)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_damaged_text_is_refused_with_its_name(tmp_path, capsys, places, kind, damage) -> None:
    path = tmp_path / "mine.txt"
    ANY[damage](path)
    refused(TEXTS[kind], path, places, capsys)


@pytest.mark.parametrize("kind", [*LAYOUTS, *TEXTS])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, capsys, places, kind) -> None:
    command = LAYOUTS[kind].command if kind in LAYOUTS else TEXTS[kind]
    refused(command, tmp_path / LONG, places, capsys)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_files_are_right_as_they_are(tmp_path, kind) -> None:
    layout = LAYOUTS[kind]
    (tmp_path / f"mine{layout.suffix}").write_text("\ufeff" + stored(layout, layout.content).replace("\n", "\r\n"))
    assert layout.read(tmp_path / f"mine{layout.suffix}")


# -- values ----------------------------------------------------------------------------------------------------------

MISSING = object()
DEEP: list[Any] = []
for _ in range(120):
    DEEP = [DEEP]
VALUES = {
    "missing": MISSING, "null": None, "true": True, "7": 7, "-5": -5, "1.5": 1.5, "1e999": "@@1e999@@", "NaN": "@@NaN@@",
    "huge": 10**400, "digits": f"@@{'9' * 5000}@@", "empty": "", "blank": " ", "half a pair": "\ud800", "list": [], "object": {},
    "nulls": [None], "deep": DEEP,
}  # fmt: skip


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value at which another one can stand."""
    yield place
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places_in(part, (*place, key))


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    found = copy.deepcopy(content)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return found


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_wrong_value_under_any_key_is_read_or_refused_with_its_place(tmp_path, kind) -> None:
    layout = LAYOUTS[kind]
    path = tmp_path / f"mine{layout.suffix}"
    refusals = 0
    for place in places_in(layout.content):
        for name, value in VALUES.items():
            if value is MISSING and not place:
                continue
            path.write_text(stored(layout, changed(layout.content, place, value)))
            try:
                layout.read(path)
            except UserError as error:
                refusals += 1
                assert path.name in str(error) and len(str(error)) < 1000, (place, name, error)
    assert refusals > 10


@pytest.mark.parametrize("answer", ["", " ", [], 7, None, "\n"])
@pytest.mark.parametrize("kind", ["squad", "hotpot", "examples", "ruler row", "infinitebench"])
def test_an_answer_that_any_text_would_hold_is_refused(tmp_path, kind, answer) -> None:
    layout = LAYOUTS[kind]
    place = {
        "squad": ("data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "text"), "hotpot": (0, "answer"),
        "examples": (0, "references", 0), "ruler row": (0, "outputs", 0), "infinitebench": (0, "answer", 0),
    }[kind]  # fmt: skip
    path = tmp_path / f"mine{layout.suffix}"
    path.write_text(stored(layout, changed(layout.content, place, answer)))
    with pytest.raises(UserError, match=r"mine\.jsonl?,.*(text|answer|reference|outputs)"):
        layout.read(path)
