"""From command-line overrides to a checked configuration: Hydra composition, a typed schema, errors that name the nearest key.

Nothing here imports torch: a wrong key must be answered at once.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config import mistakes
from harness.config.plugins import CONFIGS, files
from harness.config.schema import (
    BASELINE,
    CHOICES,
    GROUPS,
    MOST_PARTS,
    ROOT_KEYS,
    SECTIONS,
    RunConfig,
    options,
)
from harness.config.search_path import started
from harness.contracts.options import check_types, shown
from harness.errors import UserError, nearest

__all__ = ["BASELINE", "CONFIGS", "GROUPS", "MOST_PARTS", "ROOT_KEYS", "RunConfig", "compose", "fraction", "options"]

_VARIANT = re.compile(
    r"^\+(?P<group>model|method|probe|task)\.(?P<new>[^.=]+)=['\"]?\$\{(?P=group)\.(?P<old>[^.}]+)\}['\"]?$"
)


def compose(overrides: list[str]) -> DictConfig:
    """Compose `configs/config.yaml` with command-line `overrides`; every mistake becomes a `UserError`."""
    mistakes.check_text(overrides)
    overrides, variants = split_variants(expand_models([_tracking_short(o) for o in overrides]))
    mistakes.check_groups(overrides)
    with started():
        try:
            cfg = hydra_compose("config", overrides=overrides)
            _add_variants(cfg, variants)
            _drop_unused(cfg)
            _methods_or_probes(cfg, overrides)
            OmegaConf.resolve(cfg)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(mistakes.explain(error, overrides)) from error
    _check(cfg)
    return cfg


def expand_models(overrides: list[str]) -> list[str]:
    """Turn folders and hub ids in `model=...` into options of the group, so that they compose like any other."""
    known, own = set(options("model")), files("model")

    def option(item: str) -> str:
        name = item.strip().strip("'\"")
        if name in known or not name:
            return name
        if not _is_path(name):
            raise UserError(
                f"Unknown model '{name}': {nearest(name, known)} A model can also be a folder written by save_pretrained "
                "(./my-model) or a hub id (owner/name)."
            )
        label = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).name).strip("-") or "model"
        if label in own or taken.get(label, name) != name:  # two folders of one name are two models
            label += "-" + sha256(name.encode()).hexdigest()[:6]
        taken[label] = name
        node = {"_target_": "harness.models.load.ModelSpec", "path": name}
        ConfigStore.instance().store(group="model", name=label, node={label: _model_defaults() | node})
        return label

    out: list[str] = []
    taken: dict[str, str] = {}
    for text in overrides:
        if text.startswith("model="):
            value = text.removeprefix("model=")
            inner = value.strip()
            bracket = inner.startswith("[") and inner.endswith("]")
            items = ",".join(option(i) for i in (inner[1:-1] if bracket else inner).split(","))
            text = f"model=[{items}]" if bracket else f"model={items}"
        out.append(text)
    return out


def expand_random(overrides: list[str]) -> list[str]:
    """Turn `model.random=SHAPE` (or a list of shapes) into options of the model group: random weights, for `heed bench`."""
    given = [o.removeprefix("model.random=") for o in overrides if o.startswith("model.random=")]
    if not given:
        return overrides
    if any(o.startswith("model=") for o in overrides):
        raise UserError("model= and model.random= are both given; bench a checkpoint, or random weights of a shape.")
    labels = []
    for name in given[-1].strip().strip("[]").split(","):
        shape = name.strip().strip("'\"")
        if not shape:
            raise UserError("model.random= names no shape. For example model.random=llama-3.1-8b.")
        labels.append("random-" + re.sub(r"[^A-Za-z0-9_-]+", "-", Path(shape).name).strip("-"))
        node = {"_target_": "harness.models.random_weights.RandomSpec", "shape": shape, "backend": "sdpa", "seed": 0}
        node |= {key: f"${{bench.{key}}}" for key in ("layers", "dtype", "device")}
        ConfigStore.instance().store(group="model", name=labels[-1], node={labels[-1]: node})
    rest = [o for o in overrides if not o.startswith("model.random=")]
    return [f"model=[{','.join(dict.fromkeys(labels))}]", *rest]


def _tracking_short(override: str) -> str:
    """`tracking=offline` is short for `tracking.mode=offline`."""
    return re.sub(r"^tracking=(?=\w+$)", "tracking.mode=", override)


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith((".", "~")) or Path(name).is_dir()


def _model_defaults() -> dict[str, Any]:
    """The keys of any model option, from the zoo member's file."""
    loaded: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "model" / "micro-lm.yaml"))
    return dict(loaded["micro-lm"])


def split_variants(overrides: list[str]) -> tuple[list[str], list[tuple[str, str, str, list[str]]]]:
    """Set aside `+method.NEW='${method.OLD}'` and the keys of NEW: a copy, where Hydra alone would make an alias."""
    found = {(m["group"], m["new"]): m["old"] for o in overrides if (m := _VARIANT.match(o))}
    rest, keys = [], {k: [] for k in found}  # type: ignore[var-annotated]
    for text in overrides:
        if _VARIANT.match(text):
            continue
        group, _, tail = text.lstrip("+").partition(".")
        label, dot, key = tail.partition(".")
        if dot and (group, label) in keys:
            keys[group, label].append(key)
        else:
            rest.append(text)
    return rest, [(g, new, old, keys[g, new]) for (g, new), old in found.items()]


def _add_variants(cfg: DictConfig, variants: list[tuple[str, str, str, list[str]]]) -> None:
    parser = OverridesParser.create()
    bases: dict[tuple[str, str], Any] = {}
    added: dict[str, dict[str, Any]] = {}
    for group, new, old, keys in variants:
        chosen = cfg[group] or {}  # None where the list is empty
        base = chosen.get(old)
        if base is None:
            hint = nearest(old, chosen) if chosen else f"write {group}=[{old}]."
            raise UserError(f"+{group}.{new}='${{{group}.{old}}}': there is no '{old}' in this run; {hint}")
        if (group, old) not in bases:
            bases[group, old] = OmegaConf.to_container(base, resolve=True)
        node = deepcopy(bases[group, old])
        for text in keys:
            override = parser.parse_override(text)
            _set(node, override.key_or_group, override.value(), f"{group}.{new}")
        added.setdefault(group, {})[new] = node
    OmegaConf.set_struct(cfg, False)
    for group, nodes in added.items():
        for label, node in nodes.items():
            cfg[group][label] = node
    OmegaConf.set_struct(cfg, True)


def _set(node: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Replace the value at dotted `key`, which must be there."""
    *path, last = key.split(".")
    inner = node
    for part in (*path, last):
        if not isinstance(inner, dict) or part not in inner:
            known = [str(k) for k in inner if k != "_target_"] if isinstance(inner, dict) else []
            raise UserError(f"Unknown key '{where}.{key}': {nearest(part, known)}")
        parent, inner = inner, inner[part]
    parent[last] = value


def _drop_unused(cfg: DictConfig) -> None:
    """A suite may set keys of an option that the command line left out: those settings have nothing to act on."""
    OmegaConf.set_struct(cfg, False)
    for group in GROUPS:
        nodes = cfg[group] if isinstance(cfg[group], DictConfig) else {}
        for label, node in list(nodes.items()):
            if node is not None and not isinstance(node, DictConfig):
                raise UserError(
                    f"{group}.{label}={node} does not fit: it holds options, set as {group}.{label}.key=value."
                )
            if "_target_" not in (node or ()) and label in options(group):
                del cfg[group][label]
    OmegaConf.set_struct(cfg, True)


def _methods_or_probes(cfg: DictConfig, overrides: list[str]) -> None:
    """Probes stand in place of methods. Every method is compared with `dense`, so `dense` is run unless `baseline=false`
    says otherwise.
    """
    if cfg.probe:
        given = next((o for o in overrides if re.match(r"\+?method[.=]", o)), None)
        if given is not None:
            raise UserError(
                f"{given} and probe=[{','.join(map(str, cfg.probe))}] are both given: a probe looks at the model as it is, with no "
                "method at work. Leave one of them out."
            )
        OmegaConf.set_struct(cfg, False)
        cfg.method = {}
        OmegaConf.set_struct(cfg, True)
    elif cfg.baseline and BASELINE not in (cfg.method or {}):
        OmegaConf.set_struct(cfg, False)
        cfg.method = OmegaConf.merge({BASELINE: option("method", BASELINE)}, cfg.method or {})
        OmegaConf.set_struct(cfg, True)


def option(group: str, name: str) -> Any:
    """The node of an option of the project, as its file states it."""
    return OmegaConf.select(OmegaConf.load(CONFIGS / group / f"{name}.yaml"), name)


def _check(cfg: DictConfig) -> None:
    for key, allowed in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value not in allowed:
            raise UserError(f"{key}={value} is not a choice: {nearest(str(value), allowed)}")
    for where, section in (("", RunConfig), *((name, type(getattr(RunConfig(), name))) for name in SECTIONS)):
        node: Any = OmegaConf.to_container(OmegaConf.select(cfg, where) if where else cfg)
        plain = {
            f.name: node[f.name] for f in fields(section) if f.name not in (*SECTIONS, *GROUPS, "preset", "published")
        }
        check_types(section, plain, where)
    _check_published(cfg.published)
    for key in ("part", "shard"):
        fraction(cfg, key)
    for group in GROUPS:
        if group == ("method" if cfg.probe else "probe"):
            continue
        if not cfg[group] or not isinstance(cfg[group], DictConfig):
            raise UserError(f"No {group} was chosen: {group}=[...] is empty. Known: {', '.join(options(group))}.")


def _check_published(published: Any) -> None:
    keys = ("source", "protocol", "rows")
    if published is not None and not (isinstance(published, DictConfig) and all(published.get(k) for k in keys)):
        raise UserError(
            f"published={shown(published)} is no table of published numbers: it is a mapping with {', '.join(keys)}, which a suite "
            "holds (`published:` in its file). Leave it out."
        )


def fraction(cfg: DictConfig, key: str) -> tuple[int, int] | None:
    """(i, n) of `part` or `shard`; None if it is not set."""
    text = cfg[key]
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(text))
    if match is None or not int(match[1]) < int(match[2]) <= MOST_PARTS:
        raise UserError(
            f"{key}={text}: write {key}=i/n with n up to {MOST_PARTS} and i from 0 to n-1, for example {key}=0/4."
        )
    return int(match[1]), int(match[2])
