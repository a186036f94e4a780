"""Plug-ins: installed packages of other people that bring methods, tasks, models, suites and presets of their own.

Such a package names its folder of option files in its metadata, in the notation of Python packages:

    [project.entry-points."heed.plugins"]
    wander = "heed_wander.configs"

The folder is laid out as heed's own `configs/` (`method/wander.yaml`, `task/riddle.yaml`, ...) and stands behind it in Hydra's
search path. A file with the name of one of heed's presets (`preset/ci.yaml`) holds sections that are added to that preset.

To find plug-ins, metadata and option files are read; nothing of them is imported. One that cannot be used is left out whole:
what is wrong with it is printed once, and everything else goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.identity.sources import PLUGINS, package_folders
from harness.terminal.visible import visible

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LABELLED = ("model", "method", "probe", "task")  # groups in whose files every option stands under its own key


@dataclass(frozen=True)
class Plugin:
    """`name` and `version` of the distribution, the top `package` of its code, the `folder` of its option files."""

    name: str
    version: str
    package: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def options(self, group: str) -> list[str]:
        """The names of its option files of a group."""
        return sorted(path.stem for path in (self.folder / group).glob("*.yaml"))


@cache
def found() -> tuple[Plugin, ...]:
    """All that can be used, by name."""
    entries = sorted(entry_points(group=PLUGINS), key=lambda e: (_distribution(e), e.name))
    usable: list[Plugin] = []
    taken = dict.fromkeys(_own(), "heed itself") if entries else {}
    for entry in entries:
        try:
            plugin = _plugin(entry)
            parts = _checked(plugin, taken)
        except UserError as error:
            print(f"heed: {visible(str(error))}", file=sys.stderr)
            continue
        usable.append(plugin)
        taken |= dict.fromkeys(parts, f"the plug-in {plugin}")
    return tuple(usable)


def owner(module: str) -> Plugin | None:
    """The plug-in that a module belongs to."""
    return next((p for p in found() if p.package == module.partition(".")[0]), None)


def files(group: str) -> dict[str, Path]:
    """Option -> its file, of heed and of all plug-ins."""
    folders = (CONFIGS, *(plugin.folder for plugin in found()))
    paths = [path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")]
    return {path.stem: path for path in sorted(paths, key=lambda p: p.stem)}


def preset_sections(name: str) -> dict[str, Any]:
    """What plug-ins add to heed's preset `name`: section -> its keys."""
    own = [plugin.folder / "preset" / f"{name}.yaml" for plugin in found()]
    return {key: section for file in own if file.exists() for key, section in read(file).items()}


def read(file: Path) -> dict[str, Any]:
    """An option file as it stands, interpolations unresolved. `UserError` if it is no mapping."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built with it
    try:
        content = yaml.load(file.read_bytes(), loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{file} holds no options: it must be a mapping.")
    return {str(key): value for key, value in content.items()}


# -- checking --------------------------------------------------------------------------------------------------------


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else ""


def _plugin(entry: EntryPoint) -> Plugin:
    """`UserError` if its folder is not there."""
    name = _distribution(entry)
    folder = next((path for path in package_folders(entry.value) if path.is_dir()), None)
    if folder is None:
        raise UserError(
            f"the plug-in {name} is left out: its entry point {entry.name} = '{entry.value}' of {PLUGINS} names no folder. It "
            f"names the package's folder of option files ('package.configs'), which is installed with it as package data; "
            f"reinstall {name} when that is corrected, or remove it: pip uninstall {name}."
        )
    return Plugin(name, entry.dist.version if entry.dist else "", entry.value.partition(".")[0], folder)


def _checked(plugin: Plugin, taken: Mapping[str, str]) -> list[str]:
    """Its parts. `UserError` if one has a name that is taken, or a file cannot be read."""
    try:
        parts = list(_parts(plugin.folder))
    except UserError as error:
        raise UserError(f"the plug-in {plugin} is left out: {error}") from error
    for part in parts:
        if part in taken:
            raise UserError(
                f"the plug-in {plugin} is left out: {part} is a name that {taken[part]} has, too ({plugin.folder}). Rename it "
                f"in one of the two, or remove one: pip uninstall {plugin.name}."
            )
    return parts


def _parts(folder: Path) -> Iterator[str]:
    """What has a name there: options by their files, and sections of heed's presets. `UserError` for a file that names
    something else than it says: the key of an option is its name.
    """
    for file in sorted(folder.rglob("*.yaml")):
        group, keys = file.parent.relative_to(folder).as_posix(), list(read(file))
        if group in LABELLED and keys != [file.stem]:
            raise UserError(f"{file} must hold one key, '{file.stem}', with the options below it; it holds {keys}.")
        if group == "preset" and (CONFIGS / group / file.name).exists():
            yield from (f"section '{key}' of preset '{file.stem}'" for key in keys)
        else:
            yield f"{group} '{file.stem}'"


def _own() -> Iterator[str]:
    """Heed's own parts, called as in `_parts`."""
    yield from (f"{file.parent.relative_to(CONFIGS).as_posix()} '{file.stem}'" for file in CONFIGS.rglob("*.yaml"))
    for file in (CONFIGS / "preset").glob("*.yaml"):
        yield from (f"section '{key}' of preset '{file.stem}'" for key in read(file))
