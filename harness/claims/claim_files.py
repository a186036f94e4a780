"""`configs/claim/<method>.yaml` -> checked records. Whatever is wrong with a file is said in one paragraph that names it.

    published: [...]                     # see figures.py
    claims:
      - id: reach-32k
        kind: exact                      # exact | bound | direction | band | slope: see model.KINDS
        statement: ...
        source: ...                      # paper with table or equation; or "arithmetic: ..."
        expected: 1.0                    # and `tolerance`, or `at_least` / `at_most`; `digits` rounds for `exact`
        check: {_target_: ..., ...}      # or `cells: {...}` (stored results), or `needs: ...` (nothing decides it here)

Inside `check`, a mapping under `method` without `_target_` is this file's method, published defaults for what it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from harness.claims.suites import suite_table
from harness.claims.words import KINDS, Claim
from harness.config import plugins
from harness.config.compose import CONFIGS, options
from harness.errors import UserError, nearest

FOLDER = CONFIGS / "claim"
READ = ("paper", "quoted", "abstract", "release")
ENTRY = ("paper", "table", "model", "protocol", "task", "unit", "read", "values")
CLAIM = tuple(f.name for f in fields(Claim) if f.name != "method")
CELLS = ("suite", "model", "method", "task", "metric", "over", "where", "run", "at")
LIMITS = ("expected", "at_least", "at_most")
_SORTS = {
    "id": str, "statement": str, "source": str, "needs": str, "note": str, "tolerance": (int, float),
    "at_least": (int, float), "at_most": (int, float), "digits": int, "check": Mapping, "cells": Mapping,
}  # fmt: skip


def load(folder: Path = FOLDER) -> list[Claim]:
    """All claims, by file and in the order of the file. Imports the checks' classes, computes nothing."""
    return [claim for file in sorted(folder.glob("*.yaml")) for claim in load_file(file)]


def load_file(file: Path) -> list[Claim]:
    """The claims of one file."""
    content = read(file)
    claims = [_claim(node, file, i) for i, node in enumerate(content.get("claims") or ())]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise UserError(f"{file}: two claims have the id '{claim.id}'; rename one of them.")
        seen.add(claim.id)
    return claims


def read(file: Path) -> dict[str, Any]:
    """The content of a file, its published figures checked."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a mapping with the keys 'published' and 'claims'.")
    if file.stem not in options("method"):
        raise UserError(f"{file} is named after no method: {nearest(file.stem, options('method'))}")
    for key in content:
        if key not in ("published", "claims"):
            raise UserError(f"{file}: unknown key '{key}': {nearest(str(key), ('published', 'claims'))}")
        if not isinstance(content[key], list):
            raise UserError(f"{file}: '{key}' must be a list.")
    for i, entry in enumerate(content.get("published") or ()):
        _check_entry(entry, f"{file}: published[{i}]")
    return content


def _check_entry(entry: Any, where: str) -> None:
    _check_keys(entry, ENTRY, where)
    for key in ENTRY:
        if not entry.get(key):
            raise UserError(f"{where}: '{key}' is missing; a figure stands with its whole provenance.")
    if entry["read"] not in READ:
        raise UserError(f"{where}.read is '{entry['read']}': {nearest(str(entry['read']), READ)}")
    for key in ENTRY[:-1]:
        if not isinstance(entry[key], str):
            raise UserError(f"{where}.{key}={entry[key]!r} must be a text (quote an arXiv id).")
    values = entry["values"] if isinstance(entry["values"], Mapping) else {"": None}
    for metric, given in values.items():
        for value in given.values() if isinstance(given, Mapping) else (given,):
            if not _is(value, (int, float)):
                raise UserError(f"{where}.values: {metric} must be a number, or a mapping of numbers.")


def _claim(node: Any, file: Path, i: int) -> Claim:
    where = f"{file}: claims[{i}]"
    _check_keys(node, CLAIM, where)
    where = f"{file}: claim '{node['id']}'" if isinstance(node.get("id"), str) and node["id"] else where
    for key in ("id", "kind", "statement", "source"):
        if not node.get(key):
            raise UserError(f"{where}: '{key}' is missing.")
    if node["kind"] not in KINDS:
        raise UserError(f"{where}.kind is '{node['kind']}': {nearest(str(node['kind']), KINDS)}")
    for key, value in node.items():
        if key in _SORTS and not _is(value, _SORTS[key]):
            raise UserError(f"{where}.{key}={value!r} has the wrong type.")
    given = [key for key in ("check", "cells", "needs") if key in node]
    if len(given) != 1:
        raise UserError(f"{where} needs exactly one of check, cells and needs; it has {', '.join(given) or 'none'}.")
    values = dict(node)
    if "check" in node:
        values["check"] = _check(node["check"], file.stem, f"{where}.check")
    if "cells" in node:
        values |= _cells(node, file, where)
    _check_limits(values, where)
    return Claim(method=file.stem, **values)


def _check(node: Mapping[str, Any], method: str, where: str) -> Any:
    """The check, built. Its class is imported here."""
    from harness.config.build import build, target_class
    from harness.contracts.check import Check

    if not node.get("_target_"):
        raise UserError(f"{where} has no _target_ that names a class.")
    cls = target_class(node, where)
    if not (isinstance(cls, type) and issubclass(cls, Check)):
        raise UserError(f"{where}._target_ = '{node['_target_']}' is no check (a class that derives from Check).")
    try:
        return build(_own_method(node, method), where)
    except UserError as error:
        if where in str(error):
            raise
        raise UserError(f"{where}: {error}") from error  # of a method inside the check


def _own_method(node: Mapping[str, Any], method: str) -> dict[str, Any]:
    """`method: {...}` without a target is an option of the file's own method."""
    given = node.get("method")
    if not isinstance(given, Mapping) or "_target_" in given:
        return dict(node)
    return dict(node) | {"method": {"_target_": method_target(method)} | dict(given)}


def method_target(method: str) -> str:
    """The class of an option of the group `method`."""
    return str(plugins.read(plugins.files("method")[method])[method]["_target_"])


def _cells(node: Mapping[str, Any], file: Path, where: str) -> dict[str, Any]:
    """The selector with its defaults, and the published number and tolerance of a suite where the claim has none."""
    _check_keys(node["cells"], CELLS, f"{where}.cells")
    cells = {"method": file.stem} | dict(node["cells"])
    values: dict[str, Any] = {"cells": cells}
    if "suite" in cells:
        if cells["suite"] not in options("suite"):
            raise UserError(f"{where}.cells.suite: {nearest(str(cells['suite']), options('suite'))}")
        cells.setdefault("task", str(cells["suite"]).split("_")[1])
        table = suite_table(CONFIGS / "suite" / f"{cells['suite']}.yaml")
        printed = table.get("rows", {}).get(cells["method"], {}).get(cells["task"], {})
        if node["kind"] == "band" and "expected" not in node:
            if cells.get("metric") not in printed:
                raise UserError(
                    f"{where}.cells.metric: the suite prints no such number for '{cells['method']}'; "
                    f"{nearest(str(cells.get('metric')), printed)}"
                )
            values["expected"] = float(printed[cells["metric"]])
            if "tolerance" not in node:
                gate = table.get("gate") or {}
                values["tolerance"] = float(gate.get(cells["metric"], max(gate.values(), default=0)))
    elif not cells.get("run"):
        raise UserError(f"{where}.cells: without a suite, 'run' must say the command that makes the results.")
    for key in ("task", "metric"):
        if not cells.get(key):
            raise UserError(f"{where}.cells.{key} is missing.")
    return values


def _check_limits(values: Mapping[str, Any], where: str) -> None:
    """Each kind has what it is judged by."""
    kind, expected = values["kind"], values.get("expected")
    has = {key for key in LIMITS if values.get(key) is not None}
    if kind in ("exact", "direction", "band") and has != {"expected"}:
        raise UserError(f"{where}: a claim of kind '{kind}' needs 'expected' and no bounds.")
    if kind == "bound" and (not has or "expected" in has):
        raise UserError(f"{where}: a claim of kind 'bound' needs 'at_least', 'at_most' or both.")
    if kind == "slope" and not has:
        raise UserError(f"{where}: a claim of kind 'slope' needs 'expected', 'at_least' or 'at_most'.")
    if kind == "direction" and expected not in ("up", "down"):
        raise UserError(f"{where}.expected is {expected!r}: a direction is 'up' or 'down'.")
    if kind == "band" and not (_is(expected, (int, float)) and _is(values.get("tolerance"), (int, float))):
        raise UserError(f"{where}: a claim of kind 'band' needs a number in 'expected' and one in 'tolerance'.")
    if kind == "slope" and expected is not None and expected not in ("up", "down") and not _is(expected, (int, float)):
        raise UserError(f"{where}.expected is {expected!r}: a slope is a number, 'up' or 'down'.")


def _check_keys(node: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(node, Mapping):
        raise UserError(f"{where} must be a mapping with the keys {', '.join(known)}.")
    for key in node:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}': {nearest(str(key), known)}")


def _is(value: Any, sort: Any) -> bool:
    return isinstance(value, sort) and not isinstance(value, bool)
