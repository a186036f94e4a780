"""The files of `configs/claim/`: all of them are valid, and what is wrong with a file is said in one paragraph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.claims import load
from harness.claims.claim_files import FOLDER, load_file, read
from harness.cli import main
from harness.config.compose import options
from harness.errors import UserError

FILES = sorted(FOLDER.glob("*.yaml"))
GOOD = """
claims:
  - id: pairs
    kind: exact
    statement: pairs
    source: arithmetic
    expected: [16]
    check: {_target_: harness.claims.checks.patterns.Pairs, method: {block_size: 1, window_blocks: 1}, lengths: [8]}
"""
FIGURE = "{paper: '2503.03588', table: t, model: m, protocol: p, task: t, unit: percent, read: paper, values: {a: 1}}"


def test_every_method_has_a_file() -> None:
    assert [file.stem for file in FILES] == options("method")


def test_claims_have_unique_names_and_their_provenance() -> None:
    claims = load()
    assert len({c.name for c in claims}) == len(claims) > 100
    assert all("arXiv" in c.source or c.source.startswith("arithmetic") for c in claims)
    assert {c.kind for c in claims} == {"exact", "bound", "direction", "band", "slope"}


def test_files_are_plain_text() -> None:
    for file in FILES:
        assert file.read_text(encoding="utf-8").isascii(), file


def test_the_good_example_is_good(tmp_path: Path) -> None:
    assert [c.id for c in load_file(written(tmp_path, GOOD))] == ["pairs"]


BAD = {
    "unknown key": (GOOD.replace("statement", "statment"), "did you mean 'statement'"),
    "no source": (GOOD.replace("    source: arithmetic\n", ""), "'source' is missing"),
    "unknown kind": (GOOD.replace("exact", "exactly"), "did you mean 'exact'"),
    "nothing expected": (GOOD.replace("    expected: [16]\n", ""), "needs 'expected'"),
    "wrong type": (GOOD + "    tolerance: wide\n", "tolerance='wide' has the wrong type"),
    "two roads": (GOOD + "    needs: a GPU\n", "exactly one of check, cells and needs"),
    "no road": (GOOD.split("    check")[0], "it has none"),
    "target is not there": (GOOD.replace("Pairs", "Pears"), "cannot be imported"),
    "target is no check": (GOOD.replace("harness.claims.checks.patterns.Pairs", "methods.dense.Dense"), "is no check"),
    "check without target": (GOOD.replace("_target_: harness.claims.checks.patterns.Pairs, ", ""), "has no _target_"),
    "unknown key of the check": (GOOD.replace("lengths", "length"), "did you mean 'lengths'"),
    "unknown key of the method": (GOOD.replace("block_size", "blok_size"), "did you mean 'block_size'"),
    "twice the same id": (GOOD + GOOD.replace("\nclaims:\n", ""), "two claims have the id 'pairs'"),
    "twice the same key": (GOOD + "    expected: [17]\n", "is no YAML"),
    "a list": ("- 1\n", "must hold a mapping"),
    "one word": ("claims\n", "must be a list"),
    "not YAML": ("claims: [\n", "is no YAML"),
    "unknown block": ("claim: []\n", "did you mean 'claims'"),
    "claims are no list": ("claims: {a: 1}\n", "must be a list"),
    "a claim is no mapping": ("claims: [a]\n", "must be a mapping"),
    "figure without paper": (f"published: [{FIGURE.replace('2503.03588', '')}]\n", "'paper' is missing"),
    "figure read nowhere": (
        f"published: [{FIGURE.replace('read: paper', 'read: rumour')}]\n",
        "Known: abstract, paper",
    ),
    "arXiv id not quoted": (f"published: [{FIGURE.replace(chr(39), '')}]\n", "quote an arXiv id"),
    "figure is no number": (f"published: [{FIGURE.replace('{a: 1}', '{a: high}')}]\n", "must be a number"),
}
SUITED = """
claims:
  - {id: a, kind: band, statement: s, source: p, cells: {suite: p1_chair, method: vista, metric: chair_s}}
"""
BAD |= {
    "unknown suite": (SUITED.replace("p1_chair", "p1_cher"), "did you mean 'p1_chair'"),
    "metric that the suite does not print": (SUITED.replace("chair_s", "chair_z"), "prints no such number"),
    "no way to make results": (SUITED.replace("suite: p1_chair", "task: chair"), "'run' must say the command"),
    "no direction": (
        SUITED.replace("band", "direction").replace("source: p", "source: p, expected: left"),
        "'up' or 'down'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_named_with_its_fault(name: str, tmp_path: Path) -> None:
    text, said = BAD[name]
    file = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_file(file)
    message = str(error.value)
    assert said in message and "\n" not in message and len(message) < 600
    assert str(file) in message


def test_a_file_named_after_no_method_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pwer.yaml"
    file.write_text(GOOD)
    with pytest.raises(UserError, match="did you mean 'power'"):
        read(file)


def test_the_command_ends_with_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    written(tmp_path, GOOD.replace("kind: exact", "kind: guess"))
    monkeypatch.setattr("harness.commands.claims.load", lambda: load(tmp_path))
    assert main(["claims", "--results", str(tmp_path)]) == 2
    assert "claim 'pairs'.kind is 'guess'" in capsys.readouterr().err


def test_figures_and_claims_are_read_without_torch() -> None:
    code = (
        "import sys; from harness.claims import load, published; load(); published('vista'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def written(folder: Path, text: str) -> Path:
    file = folder / "power.yaml"
    file.write_text(text)
    return file
