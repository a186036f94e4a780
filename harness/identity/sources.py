"""Which files of Python code a class is made of: those of its ancestors, and all that they import, however indirectly.

Counted is what belongs to the project or to a plug-in: any file that is not below the folders of the standard library
or of installed packages (so a package installed with `pip install -e` counts), and every file of the packages that the class
itself or heed comes from, wherever they are installed. Distributions that are plug-ins of heed
count like heed's own. Libraries are left out, since their versions stand for them, and so is `harness`, for which
`identity.VERSION` does. An import inside a function counts like any other; a module that is only named in a string does
not. Nothing is imported or run for this.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from pathlib import Path

ENGINE = "harness"
PLUGINS = "heed.plugins"  # the group of entry points by which a distribution says that it is a plug-in
PACKAGES = ("site-packages", "dist-packages")  # folders of installed packages, those of another environment too


def class_sources(cls: type) -> dict[str, str]:
    """Module name -> digest of its code."""
    return dict(_sources(tuple(sorted({c.__module__ for c in cls.__mro__}))))


@cache  # as long as the process: what was imported at its start is what runs
def _sources(modules: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    own = {_top(name) for name in modules} | _shipped()
    found: dict[str, str] = {}
    waiting = [m for name in modules for m in _with_parents(name)]
    while waiting:
        name = waiting.pop()
        if name in found or _top(name) == ENGINE or not (_top(name) in own or _is_project(_top(name))):
            continue
        if file := module_file(name):
            found[name] = code_digest(file)
            waiting += [m for other in imported(file, name) for m in _with_parents(other)]
    return tuple(sorted(found.items()))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _with_parents(name: str) -> list[str]:
    """A module, and the packages whose `__init__` runs before it."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


@cache
def _shipped() -> frozenset[str]:
    """Top packages of heed's own distribution and of plug-ins, which may be installed among the libraries."""
    own: list[Distribution] = [entry.dist for entry in entry_points(group=PLUGINS) if entry.dist]
    with suppress(PackageNotFoundError):
        own.append(distribution("heed"))
    paths = [path for one in own for path in one.files or ()]
    return frozenset(path.parts[0] for path in paths if path.suffix == ".py" and len(path.parts) > 1)


@cache
def _is_project(package: str) -> bool:
    """Whether a top package lies anywhere but below the standard library and the folders of installed packages."""
    spec = _spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    places += [spec.origin] if spec and spec.origin and spec.has_location else []
    above = {folder for place in places for path in (Path(place), Path(place).resolve()) for folder in path.parents}
    installed = any(folder.name in PACKAGES for folder in above) or not above.isdisjoint(_library_roots())
    return bool(places) and not installed


@cache
def _library_roots() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    places = [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return frozenset(places) | frozenset(place.resolve() for place in places)


@cache
def module_file(name: str) -> Path | None:
    """The source file of an importable module, without importing it or its packages; None if there is none."""
    spec = _spec(name)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def package_folders(name: str) -> list[Path]:
    """Where the folder of a package lies (it may have no `__init__.py`), without importing it or those above it."""
    parent, _, last = name.rpartition(".")
    spec = _spec(parent or name)
    return [Path(place) / (last if parent else "") for place in spec.submodule_search_locations or ()] if spec else []


@cache
def _spec(name: str) -> ModuleSpec | None:
    parent, _, last = name.rpartition(".")
    places: list[str] = []
    try:
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        places = list(above.submodule_search_locations)
        return PathFinder.find_spec(name, places)
    except KeyError:  # a folder without `__init__.py` below what is not imported: its digest must not depend on that
        found = ModuleSpec(name, None, is_package=True)
        found.submodule_search_locations = [str(f) for place in places if (f := Path(place) / last).is_dir()]
        return found
    except (ImportError, ValueError, AttributeError):
        return None


@cache
def imported(file: Path, name: str) -> tuple[str, ...]:
    """Names of modules that a file may import (`from a import b` names both a and a.b)."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # it cannot be imported either, unless somebody repairs it
        return ()
    return tuple(_imports(tree, name if file.name == "__init__.py" else name.rpartition(".")[0]))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (parent, node.module or "") if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


@cache
def code_digest(path: Path) -> str:
    """Digest of a Python file's syntax tree without docstrings; of its bytes where it has none."""
    code = path.read_bytes()
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return hashlib.sha256(code).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
