"""Documents name what is there: every path, link, module and test that they mention exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "THIRD_PARTY.md")),
    *(path for folder in ("docs", "methods", "tasks", "zoo") for path in sorted((ROOT / folder).rglob("*.md"))),
]
TOPS = ("harness", "methods", "tasks", "zoo", "configs", "tests", "docs", "benchmarks", "hydra_plugins", ".ci")
MADE = ("results/reference", "results/leaderboard")  # of results, only these are in the repository
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_document_names_what_is_there(document):
    wrong = [name for name in mentioned(document.read_text()) if not is_there(name)]
    wrong += [link for link in links(document.read_text()) if not (document.parent / link).exists()]
    assert not wrong


def test_the_drawing_names_what_is_there():
    drawn = re.findall(r">([^<>\s]+\.py)<", (ROOT / "docs" / "walkthrough.svg").read_text())
    assert drawn and all((ROOT / name).is_file() for name in drawn)


def mentioned(text: str) -> Iterator[str]:
    """Words that look like a path or a module of the repository, in code spans and in commands."""
    shell = [line for kind, code in FENCE.findall(text) if kind in ("bash", "sh") for line in code.splitlines()]
    for code in [*SPAN.findall(FENCE.sub("", text)), *(line.split("#")[0] for line in shell)]:
        for word in re.split(r"[\s'\";()=]+|,(?![^{]*\})", code):
            word = word.rstrip(".:")
            if word.startswith(tuple(f"{top}/" for top in TOPS) + MADE) or re.match(
                rf"({'|'.join(TOPS[:4])}|tests)\.\w", word
            ):
                yield word


def links(text: str) -> Iterator[str]:
    """Relative targets of links, without anchors."""
    for target in LINK.findall(FENCE.sub("", text)):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            yield target.partition("#")[0]


def is_there(name: str) -> bool:
    """A path, in which <name> stands for any and {a,b} for each; a test in it after `::`; or a module with what it holds."""
    path, _, test = name.partition("::")
    if "/" not in path:
        return module_holds(path.split("."))
    files = [sorted(ROOT.glob(re.sub(r"<\w+>", "*", one))) for one in alternatives(path.rstrip("/"))]
    return all(files) and (not test or f"def {test.split('[')[0]}(" in files[0][0].read_text())


def alternatives(path: str) -> list[str]:
    """
    >>> alternatives("configs/{ci,paper}.yaml")
    ['configs/ci.yaml', 'configs/paper.yaml']
    """
    parts = [part.split(",") for part in re.split(r"[{}]", path)] if "{" in path else [[path]]
    return ["".join(choice) for choice in product(*parts)]


def module_holds(parts: list[str]) -> bool:
    for n in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:n])
        file = next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.exists()), None)
        if file or place.is_dir():
            return n == len(parts) or bool(file and re.search(rf"\b{parts[n]}\b", file.read_text()))
    return False


def test_what_is_not_there_is_found():
    text = "`harness/nowhere.py`, `tests/test_docs.py::test_no`, `methods.nothing.Here`, [x](nowhere.md)\n```bash\npytest tests/no\n```"
    assert [name for name in mentioned(text) if not is_there(name)] == [
        "harness/nowhere.py", "tests/test_docs.py::test_no", "methods.nothing.Here", "tests/no",
    ]  # fmt: skip
    assert list(links(text)) == ["nowhere.md"]
