"""The engine knows no paper and no benchmark: no name of a method, task, claim, metric or paper stands in `harness/`.

The names are read from the folders and classes that bear them. A name that is also a word of the language, or of the field, is
in `COMMON` with the reason; nothing else is excused.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.commands.catalog import entries
from harness.config.build import target_class

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".py", ".html", ".js", ".css")
COMMON = {
    "dense": "attention that leaves nothing out: what everything is compared with",
    "sliding": "sliding windows, of models that have them",
    "power": "of a test, of two, of a law",
    "streaming": "reading piece by piece",
    "var": "variables of style sheets and scripts, variance",
    "null": "no value, in JSON and YAML",
    "length": "of prompts and answers",
    "score": "of attention, and what a task gives an answer",
    "unknown": "what has no value, or a name that is not known",
    "accuracy": "what is measured, beside speed",
    "precision": "of numbers",
    "recall": "to remember; and the name of a metric by which results written before tasks declared it are completed",
    "yes_ratio": "the name of a metric by which results written before tasks declared it are completed",
    "perplexity": "the field's example of a mean that is transformed",
    "f1": "the field's example of a ratio with parts",
    "lm_eval": "the library whose layout `heed export` writes and whose requests one kind of question asks",
    "kvpress": "an optional package that `heed doctor` looks for and whose version is kept with results",
}


def names() -> set[str]:
    """Folders of tasks, files and folders of methods and probes, claims, metrics that tasks declare, and numbers of papers."""
    found = {path.name for path in (ROOT / "tasks").iterdir() if path.is_dir()}
    found |= {path.stem for path in (ROOT / "configs" / "claim").glob("*.yaml")}
    found |= {path.stem for group in ("method", "probe", "task") for path in (ROOT / "configs" / group).glob("*.yaml")}
    for group in ("method", "probe", "task"):
        for name, node in entries(group).items():
            cls = target_class(node, name)
            found |= {metric.name for metric in getattr(cls, "metrics", ())}
            found |= set(re.findall(r"\d{4}\.\d{5}", cls.paper))
    return {name.lower() for name in found if not name.startswith("_")}


def mentions(text: str, known: set[str]) -> set[str]:
    """The names that stand in a text as words, whatever is between their parts (`chair_s`, `lm-eval`)."""
    words = " ".join(re.findall(r"[a-z0-9.]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()))
    return {
        name for name in known if re.search(rf"(?<![a-z0-9]){re.escape(name.replace('_', ' '))}(?![a-z0-9])", words)
    }


def test_the_engine_names_no_method_task_claim_metric_or_paper() -> None:
    known = names() - COMMON.keys()
    files = [path for path in (ROOT / "harness").rglob("*") if path.suffix in SUFFIXES]
    hits = {str(path.relative_to(ROOT)): found for path in files if (found := mentions(path.read_text("utf-8"), known))}
    assert hits == {}


def test_no_excuse_is_left_over() -> None:
    """Every excused name is the name of something, and stands in the engine."""
    texts = " ".join(path.read_text("utf-8") for path in (ROOT / "harness").rglob("*") if path.suffix in SUFFIXES)
    assert mentions(texts, set(COMMON)) == COMMON.keys()
    assert COMMON.keys() <= names()


@pytest.mark.parametrize(
    "text", ["as in CHAIR", "chair_s: 24", "`chair_s`", "lm-eval", "class PopeTask", "arXiv 2502.03628", '"pope"']
)
def test_a_name_is_found_however_it_is_written(text: str) -> None:
    assert mentions(text, {"chair", "chair_s", "lm_eval", "pope", "2502.03628"})


@pytest.mark.parametrize("text", ["an armchair", "pope2", "the popes", "evaluated", "2502.036281"])
def test_a_part_of_a_word_is_no_name(text: str) -> None:
    assert not mentions(text, {"chair", "pope", "lm_eval", "2502.03628"})
