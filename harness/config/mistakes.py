"""What Hydra and OmegaConf refuse, as one paragraph: what was written, why it cannot be, and how to write it.

`check_groups` says beforehand what they would take silently or answer with a traceback; `explain` translates what they raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from harness.config import schema
from harness.config.build import target_class
from harness.config.plugins import files, read
from harness.config.search_path import started
from harness.contracts.options import hints, words
from harness.errors import UserError, nearest

BRACKETS = {"[": "]", "{": "}", "(": ")"}


# -- beforehand ------------------------------------------------------------------------------------------------------


def check_text(overrides: Sequence[str]) -> None:
    """Bytes that are no UTF-8 arrive from the system as lone surrogates, which no record could hold."""
    for text in overrides:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{text!r} holds bytes that are no UTF-8 text. Labels and values are text: write it anew."
            ) from None


def check_groups(overrides: Sequence[str]) -> None:
    """What Hydra would take silently or cannot read: an optional suite that is not there, several presets, numbers for names
    or for true and false, new keys at the root.
    """
    for text in overrides:
        key, _, value = text.partition("=")
        if not key:
            raise UserError(f"'{text}' names no key. Write key=value, lists as key=[a,b].")
        if key == "model.random":
            raise UserError(f"{text}: random weights have a speed and nothing to say; use `heed bench {text}`.")
        if key == "suite" and value not in ("null", "", *schema.options("suite")):
            raise UserError(f"Unknown suite '{value}': {nearest(value, schema.options('suite'))}")
        if key == "preset" and value.startswith("["):
            raise UserError(f"preset={value}: a run has one preset; {nearest(value, schema.options('preset'))}")
        if key in (*schema.GROUPS, "preset", "hydra"):
            _check_names(text, key, value)
        if hints(schema.RunConfig).get(key) is bool and re.fullmatch(r"\s*[+-]?[\d_]+\s*", value):
            # OmegaConf takes 0 for false and every other number for true
            raise UserError(f"{text} does not fit: it must be {words(bool)}.")
        if key.startswith("+") and (root := key.lstrip("+").split(".")[0]) not in (*schema.GROUPS, "hydra"):
            plain = f"it is there already: write {text.lstrip('+')} without a plus." if root in schema.ROOT_KEYS else ""
            raise UserError(f"Unknown key '{key.lstrip('+')}': {plain or nearest(key.lstrip('+'), schema.ROOT_KEYS)}")


def _check_names(text: str, key: str, value: str) -> None:
    """`text` chooses options of a group: by their names, which are no numbers, mappings or null."""
    try:
        override = OverridesParser.create().parse_override(text)
        found = () if override.is_sweep_override() else override.value()
    except HydraException:
        found = () if not value.startswith("{") else None  # told when the whole is composed
    if isinstance(found, str) or (isinstance(found, list | tuple) and all(isinstance(f, str) for f in found)):
        return
    if key == "hydra":
        raise UserError(f"{text}: settings of Hydra are set one by one, such as hydra.job.name=x.")
    known = f"Known: {', '.join(schema.options(key))}."
    if key == "preset":
        raise UserError(f"{text}: preset takes one name: preset=ci. {known}")
    raise UserError(
        f"{text}: {key} takes names, a string or a list: {key}=[a,b]; options are set as {key}.NAME.key=value. {known}"
    )


# -- afterwards ------------------------------------------------------------------------------------------------------


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """One paragraph for what Hydra or OmegaConf refused."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"Unknown {group} '{name}': {nearest(name, schema.options(group))}"
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if "Ambiguous value" in text:
        bad = text.split("'")[1]
        key, _, value = bad.partition("=")
        return f"'{bad}': commas make jobs and need `heed run -m`; brackets make a matrix in one job: {key}=[{value}]."
    if match := re.search(r"Could not (?:override|append to config)[^']*'([^']+)'", text):
        return unknown_key(match[1], overrides)
    if match := re.search(r"Error merging override (.+)", text):
        return _misfit(match[1].strip(), overrides)
    if match := re.search(r"Interpolation key '([^']+)' not found", text):
        return _unknown_reference(match[1], overrides)
    if match := re.search(r"Could not delete from config\. '?([^' ]+)'? does not exist", text):
        return f"There is nothing to remove at '{match[1]}'. Leave out ~{match[1]}, or correct the name."
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    return " ".join(f"{text} {cause}".split())


def _unreadable(text: str) -> str:
    """Why an override cannot be parsed, from its text: the parser's own words name its rules, not the mistake."""
    key, equals, value = text.partition("=")
    said = f"The override '{text}' cannot be read: "
    if not equals:
        return f"{said}it has no '='. Write key=value, lists as key=[a,b]."
    if not re.fullmatch(r"[+~]{0,2}[\w./@:-]+", key, re.ASCII):
        return f"{said}'{key}' is no key. Keys and labels are letters, digits, '_' and '-', with dots between them."
    for opened, closed in BRACKETS.items():
        if value.count(opened) != value.count(closed):
            return f"{said}a '{opened}' and a '{closed}' belong together. Write key=value, lists as key=[a,b]."
    if value.count("'") % 2 or value.count('"') % 2:
        return f"{said}a quotation mark is not closed. Write key=value, lists as key=[a,b]."
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"{said}the value holds characters with a meaning of their own. Put it in quotes, for the shell and for heed: "
        f"\"{key}='{quoted}'\"."
    )


def _misfit(text: str, overrides: Sequence[str]) -> str:
    """A value of the wrong type, said as for the options of a method."""
    key, _, value = text.partition("=")
    key = key.lstrip("+~")
    hint = _hint(key, overrides)
    if is_dataclass(hint) or hint is dict:
        inner = [f.name for f in fields(hint)] if is_dataclass(hint) else _inner(key, overrides)
        first = inner[0] if inner else "key"
        return f"{text} does not fit: {key} holds several options, set one by one, such as {key}.{first}=value. {_known(inner)}"
    return (
        f"{key}={value} does not fit: it must be {words(hint)}."
        if hint is not None
        else f"{text} does not fit what stands there."
    )


def _hint(key: str, overrides: Sequence[str]) -> Any:
    """The annotation of the option at dotted `key`; `dict` for a set of options, None where nothing is known."""
    hint: Any = schema.RunConfig
    *path, last = key.split(".")
    for part in (*path, last):
        if not is_dataclass(hint):
            return _hint_below(key, overrides)
        hint = dict(hints(cast(type, hint))).get(part)
    return _hint_below(key, overrides) if key.split(".")[0] in schema.GROUPS else hint


def _hint_below(key: str, overrides: Sequence[str]) -> Any:
    place, _, last = key.rpartition(".")
    cfg = _groups_alone(overrides)
    if isinstance(OmegaConf.select(cfg, key), DictConfig):
        return dict
    node = OmegaConf.select(cfg, place) if place else None
    if isinstance(node, DictConfig) and "_target_" in node:
        return hints(target_class(cast(dict[str, Any], node), place)).get(last)
    return None


def _inner(key: str, overrides: Sequence[str]) -> list[str]:
    node = OmegaConf.select(_groups_alone(overrides), key)
    return [str(k) for k in node if k != "_target_"] if isinstance(node, DictConfig) else []


def _unknown_reference(key: str, overrides: Sequence[str]) -> str:
    user = next((o for o in overrides if f"${{{key}" in o), "")
    cfg = _groups_alone(overrides)
    place, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, place) if place else cfg
    known = [str(k) for k in node] if isinstance(node, DictConfig) else []
    removed = next((o for o in overrides if o.startswith("~") and key.startswith(o.lstrip("~").split("=")[0])), "")
    if removed:
        return f"{removed}: other options are made from '{key}', so it cannot be removed. Leave {removed} out."
    return f"{f'{user}: ' if user else ''}there is no '{key}' to refer to; {nearest(last, known)}"


# -- unknown keys ----------------------------------------------------------------------------------------------------


def unknown_key(key: str, overrides: Sequence[str]) -> str:
    """Where on the way down `key` leaves the tree, and where that key is to be found."""
    cfg = _groups_alone(overrides)
    node: Any = cfg
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            place = ".".join(walked)
            names = [str(k) for k in node if k != "_target_"] if isinstance(node, DictConfig) else []
            said = f"Unknown key '{key}'{f' (in {place})' if place else ''}: "
            elsewhere = list(_elsewhere(key.removeprefix(f"{place}."), walked, cfg))
            if elsewhere:
                return f"{said}did you mean {' or '.join(elsewhere[:3])}?"
            extra = ""
            if len(walked) == 1 and part in schema.options(walked[0]):
                extra = f" Options of a {walked[0]} can be set only if it is in the run: {walked[0]}=[...,{part}]."
            return said + nearest(part, names + ([] if walked else ["suite"])) + extra
        node = node[part]
        walked.append(part)
    text = next((o for o in overrides if o.partition("=")[0].lstrip("+~") == key), key)
    inner = [str(k) for k in node if k != "_target_"] if isinstance(node, DictConfig) else []
    if inner and not text.startswith("+"):
        return f"{text}: a key in it is unknown. Options of {key} are set one by one: {key}.{inner[0]}=value. {_known(inner)}"
    return f"The key '{key}' cannot be set this way; write {key}=value without a plus."


def _elsewhere(rest: str, walked: Sequence[str], cfg: DictConfig) -> Iterator[str]:
    """Full keys of options in this run that end like `rest`, then of options that could be in it, with what chooses them."""
    if len(walked) > 1 or (walked and walked[0] not in schema.GROUPS):
        return
    first = rest.split(".")[0]
    for group in walked or schema.GROUPS:
        nodes = cfg[group] if isinstance(cfg[group], DictConfig) else {}
        if first in nodes and not walked:
            yield f"{group}.{rest}"
        yield from (f"{group}.{label}.{rest}" for label in nodes if rest in (nodes[label] or ()))
    if not walked:
        yield from (f"{section}.{rest}" for section in schema.SECTIONS if rest in cfg[section])
        for (group, label), keys in _files().items():
            if label not in (cfg[group] or ()) and rest in keys:
                yield f"{group}.{label}.{rest} (with {group}=[{label}])"


@cache
def _files() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Keys of every option file that none of the zoo's models shares: (group, label) -> keys."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for group in ("task", "method"):
        for path in files(group).values():
            found |= {(group, key): tuple(map(str, v)) for key, v in read(path).items() if isinstance(v, Mapping)}
    return found


def _groups_alone(overrides: Sequence[str]) -> DictConfig:
    """The configuration with nothing but what was chosen from the groups."""
    chosen = [o for o in overrides if o.split("=")[0] in (*schema.GROUPS, "preset", "suite")]
    with started():  # a sweep's error arrives after its own Hydra is gone
        return hydra_compose("config", overrides=chosen)


def _known(names: Sequence[str]) -> str:
    return f"Known: {', '.join(sorted(names)) or 'none'}."
