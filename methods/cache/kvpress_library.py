"""The presses of kvpress (NVIDIA, Apache-2.0) from outside: which there are, made from options, called on one layer.

An optional extra. Its metadata refuses transformers 5.3 and later, so it is installed with `--no-deps`, and needs
nothing else here: modules of presses are loaded one by one, not through `import kvpress`. That would import a pipeline and
packages that only downloads need (datasets, fire, cachetools), and would wrap every attention function of the process
so that heads with fewer keys see fake ones instead.

A press is a hook of an attention layer. As published it fails on transformers 5, which no longer passes
`cache_position`: `call` hands it over, together with the rotary module and the head-wise mask that presses expect on the
attention module, and takes them back. Sources: kvpress 0.5.4 `base_press.py`, `scorer_press.py`, `adakv_press.py`,
`attention_patch.py`.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata, util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness.contracts.options import MOST, fits, shown
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "kvpress"
INSTALL = "pip install --no-deps -c constraints.txt kvpress"
ROTATES = "KeyRerotationPress"
IN_DECODE = ("DecodingPress", "CompressionRatioDecodingPress", "CAMPress")  # leave the prompt alone
RAGGED = ("SimLayerKVPress", "DMSPress", "ChunkKVPress")  # how many keys stay depends on the text
LAZY = ("SimLayerKVPress", "DMSPress")  # and some layers may keep all

SIZES = ("_size", "_length", "_interval", "_dimension")
MAY_BE_EMPTY = ("sink", "buffer")

_FETCHES = "it downloads files for the model, and nothing is fetched while a cell is computed"
_PASSES = "it runs the model several times over the prompt, outside the layers"
REFUSED = {
    "QFilterPress": _FETCHES,
    "DuoAttentionPress": _FETCHES,
    "KVzapPress": _FETCHES,
    "FastKVzipPress": _FETCHES,
    "LUKVPress": _FETCHES,
    "RestoreKVPress": _FETCHES,
    "ExpectedAttentionStatsPress": _FETCHES,
    "KVzipPress": _PASSES,
    "KVComposePress": _PASSES,
    "ObservedAttentionPress": "it wants the attention weights of all queries, which eager attention alone returns; "
    "method=h2o keeps the keys that received most attention without them",
    "FinchPress": "it wants a delimiter added to the tokenizer and to the model's embeddings",
    "ThinKPress": "it sets channels of keys to zero and drops no key, so nothing is saved that could be counted",
}


@cache
def version() -> str | None:
    """The installed version; None: the extra is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


@cache
def modules() -> dict[str, str]:
    """Press -> module that defines it, read from the package's text: nothing is imported. Empty if not installed."""
    start = _start()
    if start is None:
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(start.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}.presses."):
            found |= {a.name: str(node.module) for a in node.names if a.name.endswith("Press")}
    return {name: module for name, module in found.items() if name not in ("BasePress", "ScorerPress")}


def _start() -> Path | None:
    spec = util.find_spec(PACKAGE)
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def load(name: str) -> Any:
    """A module of kvpress, without the package's own start unless somebody else has already run it."""
    start = _start() if PACKAGE not in sys.modules else None
    if start is None:
        return import_module(name)
    package = ModuleType(PACKAGE)
    package.__path__ = [str(start.parent)]
    sys.modules[PACKAGE] = package
    try:
        return import_module(name)
    finally:
        del sys.modules[PACKAGE]


# -- from options to a press ------------------------------------------------------------------------------------------


def wraps(key: str) -> bool:
    """Whether an option holds another press, or a list of them: a name, or a mapping with the key `name`."""
    return str(key).endswith(("press", "presses"))


def split(one: Any) -> tuple[Any, dict[str, Any]]:
    """Name and options of a press that is wrapped by another."""
    given = dict(one) if isinstance(one, Mapping) else {"name": one}
    return given.pop("name", None), given


def inside(kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(key, name, options) of the presses that a press with these options wraps."""
    for key, value in kwargs.items():
        if wraps(key) and value is not None:
            for one in value if isinstance(value, list | tuple) else [value]:
                yield key, *split(one)


def names(press: str, kwargs: Mapping[str, Any]) -> list[str]:
    """The press and all that it wraps."""
    return [press, *(found for _, name, given in inside(kwargs) for found in names(name, given))]


def check_names(press: Any, kwargs: Mapping[str, Any], where: str, options: str) -> None:
    """`UserError` unless the press and all that it wraps can be served. Imports nothing; while kvpress is not installed
    any name passes. `where` names the press in the configuration, `options` its options.
    """
    if not isinstance(press, str) or not press:
        raise UserError(f"{where}={press!r} names no press. For example {where}=SnapKVPress.")
    if press in REFUSED:
        raise UserError(f"{where}={press} cannot be served: {REFUSED[press]}.")
    if modules() and press not in modules():
        known = set(modules()) - set(REFUSED)
        raise UserError(f"{where}={press}: kvpress {version()} has no such press; {nearest(press, known)}")
    _check_counts(kwargs, options)
    for key, name, given in inside(kwargs):
        if name == ROTATES:
            raise UserError(f"{options}.{key}={name}: it moves the keys of a whole cache; no other press can wrap it.")
        check_names(name, given, f"{options}.{key}", f"{options}.{key}")


def _check_counts(kwargs: Mapping[str, Any], options: str) -> None:
    """Whole numbers of presses count keys, steps or dimensions. The library checks few of them, and fails on the rest while it runs."""
    for key, value in kwargs.items():
        if isinstance(value, int) and not isinstance(value, bool):
            least = int(str(key).endswith(SIZES) and not any(word in str(key) for word in MAY_BE_EMPTY))
            if not least <= value <= MOST:
                raise UserError(
                    f"{options}.{key}={value} is out of range: it must be a whole number from {least} to {MOST}."
                )
            if key == "kernel_size" and value % 2 == 0:
                raise UserError(
                    f"{options}.{key}={value}: it must be odd, for each key stands in the middle of its window."
                )


def make(press: str, kwargs: Mapping[str, Any], where: str) -> Any:
    """A press. `UserError` for options that it does not have or refuses."""
    cls = getattr(load(modules()[press]), press)
    known = {k: p.default for k, p in inspect.signature(cls).parameters.items() if not k.startswith("_")}
    for key, value in kwargs.items():
        if key not in known:
            raise UserError(f"Unknown key '{where}.{key}': {press} has no such option; {nearest(key, known)}")
        if fits(known[key], float) and not fits(value, float):
            raise UserError(f"{where}.{key}={shown(value)} does not fit: {press} takes a number, such as {known[key]}.")
    if press == "DMSPress" and kwargs.get("threshold") is None:
        raise UserError(f"{where}.threshold is missing: {press} drops the keys whose score is below it.")
    values = {k: _made(v, f"{where}.{k}") if wraps(k) else v for k, v in kwargs.items()}
    try:
        return cls(**values)
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {press} of kvpress cannot be made from {dict(kwargs)}: {error}.") from error


def _made(value: Any, where: str) -> Any:
    if isinstance(value, list | tuple):
        return [_made(one, where) for one in value]
    return None if value is None else make(*split(value), where)


def takes_ratio(press: Any) -> bool:
    """Whether its `compression_ratio` can be set; it is then set to 0, with which a press drops nothing."""
    if not hasattr(type(press), "compression_ratio"):
        return False
    try:
        press.compression_ratio = 0.0
    except AttributeError:
        return False
    return True


def works_in_decode(press: Any) -> bool:
    """Whether it may act after the prompt: the common hook of all presses does nothing there."""
    base = load(f"{PACKAGE}.presses.base_press").BasePress
    return type(press).forward_hook is not base.forward_hook


def remembered(press: Any) -> list[dict[str, Any]]:
    """What a press and those that it wraps hold (hidden states of a decode press, for one), as it is at any time."""
    values = [one for value in vars(press).values() for one in (value if isinstance(value, list) else [value])]
    return [vars(press), *(held for one in values if hasattr(one, "forward_hook") for held in remembered(one))]


def supported() -> tuple[type, ...]:
    """The model classes that kvpress is made for."""
    return tuple(load(f"{PACKAGE}.presses.base_press").SUPPORTED_MODELS)


# -- one call ---------------------------------------------------------------------------------------------------------


def call(
    press: Any, module: Any, rotary: Any, given: Mapping[str, Any], first: int, layer: SimpleNamespace, masked: Any,
    seed: int,
) -> tuple[Any, Tensor | None]:  # fmt: skip
    """Run the hook of `press` on one sample of one layer: `layer.keys` and `.values` `[1, H_kv, n, D]` are what it finds
    in the cache and are replaced by what it leaves there.

    `given`: what the attention module was called with; `first`: the true position of the first query; `masked`: the
    head-wise mask that an earlier call returned. Returns that mask (index tensors of sample, head, column, or None), and
    the columns `[1, H_kv, n']` if the press itself turned the kept keys to new positions. Random numbers depend on
    `seed` alone. `UserError` if the press refuses the prompt.
    """
    import torch

    x = given["hidden_states"]
    at = torch.arange(first, first + x.shape[1], device=x.device)
    cache = SimpleNamespace(layers={module.layer_idx: layer})
    kwargs = {**given, "past_key_values": cache, "cache_position": at, "position_ids": at[None]}
    columns: list[Tensor] = []
    if type(press).__name__ == ROTATES:
        press.rerotate_keys = _remembering(type(press).rerotate_keys, columns)
    with _lent(module, rotary_emb=copy.deepcopy(rotary), masked_key_indices=masked), _seeded(seed):
        try:
            press.forward_hook(module, [], kwargs, [None, None])
        except (AssertionError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"{type(press).__name__} of kvpress refuses {x.shape[1]} tokens in layer {module.layer_idx}: {error}."
            ) from error
        return vars(module)["masked_key_indices"], columns[0] if columns else None


def _remembering(turn: Any, columns: list[Tensor]) -> Any:
    def remember(module: Any, indices: Tensor, keys: Tensor) -> Tensor:
        columns.append(indices)
        return turn(module, indices, keys)

    return remember


@contextmanager
def _lent(module: Any, **values: Any) -> Iterator[None]:
    """Attributes on a module, past its own bookkeeping of parts; afterwards what was there is back."""
    there = vars(module)
    before = {key: there[key] for key in values if key in there}
    there.update(values)
    try:
        yield
    finally:
        for key in values:
            there.pop(key, None)
        there.update(before)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators begin at `seed`, and are afterwards where they were. Nothing is differentiated."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        yield
