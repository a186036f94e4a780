"""From command-line overrides to a checked configuration: Hydra composition, a typed schema, errors that name the nearest key.

Nothing here imports torch: a wrong key must be answered at once.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError, nearest

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BASELINE = "dense"
GROUPS = ("model", "method", "task")
_VARIANT = re.compile(
    r"^\+(?P<group>model|method|task)\.(?P<new>[^.=]+)=['\"]?\$\{(?P=group)\.(?P<old>[^.}]+)\}['\"]?$"
)


@dataclass
class TrackingConfig:
    """Weights & Biases, fed from the records."""

    mode: str = "auto"  # auto (online if logged in, else disabled) | disabled | offline | online
    project: str = "heed"
    group: str | None = None  # None: derived from the plan
    timeout: float = 60.0  # seconds a cell may spend on tracking before it is given up (its records stay)


@dataclass
class DecodingConfig:
    """How the next token is chosen; see harness/generation/decoding.py."""

    search: str = "greedy"  # greedy | sample | beam
    num_beams: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass
class BenchConfig:
    """`heed bench`; see harness/efficiency/bench.py for how it measures."""

    kind: str = "model"  # model: whole requests | attention: one layer's attention function alone
    lengths: Any = field(default_factory=lambda: [512, 1024, 2048])  # prompt tokens
    batches: Any = field(default_factory=lambda: [1])  # requests computed together
    new_tokens: int = 8  # decode steps of each request
    repeats: int = 10  # counted rounds; every method runs once in each
    budget_s: float = 60.0  # seconds that one method may take at one length and batch size
    layers: int | None = None  # of model.random: take only so many layers of the shape
    dtype: str = "auto"  # of model.random
    device: str = "auto"  # of model.random


@dataclass
class RunConfig:
    """The typed root. The four groups are open dictionaries: their content is checked by the classes they name."""

    seed: int = 0
    limit: int | None = None  # at most this many examples per task, taken evenly over its groups
    baseline: bool = True  # add `dense` to the methods: it is everybody's baseline
    efficiency: str = "quick"  # off | quick | full
    batch_tokens: int = 8192  # padded tokens (prompt + new) per batch
    lowering: str = "auto"  # auto | dense | gather | flex: how block patterns are computed
    share: bool = (
        True  # compute once what methods have in common (dense prefill, pictures), where that is provably equal
    )
    part: str | None = None  # i/n: run the i-th (from 0) of n parts of the plan's cells
    shard: str | None = None  # i/n: run the i-th (from 0) of n parts of every cell's samples
    allow_errors: int = 0  # samples of a cell that may raise before the cell has failed
    results: str = "results"
    dry_run: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)  # `heed bench` alone reads it
    published: Any = None  # numbers of a paper for this protocol, shown beside the measured ones
    preset: Any = None
    model: Any = None
    method: Any = None
    task: Any = None


CHOICES = {
    "efficiency": ("off", "quick", "full"),
    "lowering": ("auto", "dense", "gather", "flex"),
    "decoding.search": ("greedy", "sample", "beam"),
    "tracking.mode": ("auto", "disabled", "offline", "online"),
    "bench.kind": ("model", "attention"),
}

ROOT_KEYS = (*(f.name for f in fields(RunConfig)), "suite")
ConfigStore.instance().store(name="heed_schema", node=RunConfig)


def compose(overrides: list[str]) -> DictConfig:
    """Compose `configs/config.yaml` with command-line `overrides`; every mistake becomes a `UserError`."""
    overrides, variants = split_variants(expand_models([_tracking_short(o) for o in overrides]))
    _check_groups(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = hydra_compose("config", overrides=overrides)
            _add_variants(cfg, variants)
            _drop_unused(cfg)
            _add_baseline(cfg)
            OmegaConf.resolve(cfg)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(_explain(error, overrides)) from error
    _check(cfg)
    return cfg


def options(group: str) -> list[str]:
    """The names that `group=` accepts: files of `configs/<group>/`, and models that `expand_models` added."""
    added = ConfigStore.instance().repo.get(group) or {}
    return sorted({p.stem for p in (CONFIGS / group).glob("*.yaml")} | {Path(name).stem for name in added})


def expand_models(overrides: list[str]) -> list[str]:
    """Turn folders and hub ids in `model=...` into options of the group, so that they compose like any other."""
    known, files = set(options("model")), {p.stem for p in (CONFIGS / "model").glob("*.yaml")}

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
        if label in files or taken.get(label, name) != name:  # two folders of one name are two models
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
        for label in [k for k in nodes if "_target_" not in (nodes[k] or ()) and k in options(group)]:
            del cfg[group][label]
    OmegaConf.set_struct(cfg, True)


def _add_baseline(cfg: DictConfig) -> None:
    """Every method is compared with `dense`, so `dense` is run unless `baseline=false` says otherwise."""
    if cfg.baseline and BASELINE not in (cfg.method or {}):
        OmegaConf.set_struct(cfg, False)
        cfg.method = OmegaConf.merge(OmegaConf.load(CONFIGS / "method" / f"{BASELINE}.yaml"), cfg.method or {})
        OmegaConf.set_struct(cfg, True)


def _check_groups(overrides: list[str]) -> None:
    """What Hydra would take silently: an optional suite that is not there, several presets, new keys at the root."""
    for text in overrides:
        key, _, value = text.partition("=")
        if key == "model.random":
            raise UserError(f"{text}: random weights have a speed and nothing to say; use `heed bench {text}`.")
        if key == "suite" and value not in ("null", "", *options("suite")):
            raise UserError(f"Unknown suite '{value}': {nearest(value, options('suite'))}")
        if key in GROUPS and value.startswith("{"):
            raise UserError(
                f"{text}: {key} takes names, a string or a list: {key}=[a,b]; options are set as {key}.NAME.key=value."
            )
        if key == "preset" and value.startswith("["):
            raise UserError(f"preset={value}: a run has one preset; {nearest(value, options('preset'))}")
        if key.startswith("+") and key.lstrip("+").split(".")[0] not in (*GROUPS, "hydra"):
            raise UserError(f"Unknown key '{key.lstrip('+')}': {nearest(key.lstrip('+'), ROOT_KEYS)}")


def _check(cfg: DictConfig) -> None:
    for key, allowed in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value not in allowed:
            raise UserError(f"{key}={value} is not a choice: {nearest(str(value), allowed)}")
    for key in ("limit", "batch_tokens"):
        if cfg[key] is not None and cfg[key] < 1:
            raise UserError(f"{key}={cfg[key]} must be at least 1.")
    if cfg.allow_errors < 0:
        raise UserError(f"allow_errors={cfg.allow_errors} cannot be negative.")
    for key in ("part", "shard"):
        fraction(cfg, key)
    for group in GROUPS:
        if not cfg[group] or not isinstance(cfg[group], DictConfig):
            raise UserError(f"No {group} was chosen: {group}=[...] is empty. Known: {', '.join(options(group))}.")


def fraction(cfg: DictConfig, key: str) -> tuple[int, int] | None:
    """(i, n) of `part` or `shard`; None if it is not set."""
    text = cfg[key]
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"{key}={text}: write {key}=i/n with i from 0 to n-1, for example {key}=0/4.")
    return int(match[1]), int(match[2])


def _explain(error: Exception, overrides: list[str]) -> str:
    """One paragraph for what Hydra or OmegaConf refused."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"Unknown {group} '{name}': {nearest(name, options(group))}"
    if isinstance(error, OverrideParseException):
        return f"The override '{error.override}' cannot be read: {text.splitlines()[0]}. Write key=value, lists as key=[a,b]."
    if "Ambiguous value" in text:
        bad = text.split("'")[1]
        key, _, value = bad.partition("=")
        return f"'{bad}': commas make jobs and need `heed run -m`; brackets make a matrix in one job: {key}=[{value}]."
    if match := re.search(r"Could not (?:override|append to config)[^']*'([^']+)'", text):
        return _unknown_key(match[1], overrides)
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    return " ".join(f"{text} {cause}".split())


def _unknown_key(key: str, overrides: list[str]) -> str:
    """Where on the way down `key` leaves the tree, with the nearest name at that place."""
    groups = [o for o in overrides if o.split("=")[0] in (*GROUPS, "preset", "suite")]
    GlobalHydra.instance().clear()  # a sweep's error arrives after its own Hydra is gone
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra_compose("config", overrides=groups)
    node: Any = cfg
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            names = [str(k) for k in node] if isinstance(node, DictConfig) else []
            place = ".".join(walked)
            known = [n for n in names if n != "_target_"] + (["suite"] if not walked else [])
            extra = ""
            if len(walked) == 1 and walked[0] in GROUPS:
                extra = f" Options of a {walked[0]} can be set only if it is in the run: {walked[0]}=[...,{part}]."
            return f"Unknown key '{key}'{f' (in {place})' if place else ''}: {nearest(part, known)}{extra}"
        node = node[part]
        walked.append(part)
    return f"The key '{key}' cannot be set this way; write {key}=value without a plus."
