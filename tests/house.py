"""How the house stands: which file imports which, in which order the rooms lie, and how long things are.

Everything is read from the syntax tree, so imports for types alone (`if TYPE_CHECKING:`) and imports inside functions count as
much as any other: what a reader must open to understand a file.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

TOPS = ("harness", "methods", "tasks", "zoo", "hydra_plugins")

# Rooms of the harness from bottom to top. A room may import from those before it; rooms of one entry lie side by side, and import
# nothing from each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("disk", "terminal"),
    ("contracts",),
    ("identity",),
    ("config",),
    ("models",),
    ("attention",),
    ("asking",),
    ("training",),
    ("efficiency",),
    ("records",),
    ("analysis",),
    ("plan",),
    ("running",),
    ("pricing",),
    ("claims",),
    ("report",),
    ("tracking", "launch", "exchange"),
    ("commands",),
    ("cli",),
)

# What methods, tasks and the zoo may import of the harness.
OPEN = ("contracts", "errors", "disk")
# Pure functions of sample rows beside them: what a task draws of its own results has the intervals of the tables.
HELPERS = ("harness.analysis.statistics",)
EXTENSIONS = ("methods", "tasks", "zoo")
PROGRAMS, DOOR = "zoo.recipes", "harness.cli"  # programs that make models use heed as people do

LONGEST_FUNCTION = 40
LONGEST_FILE = 400

Edge = tuple[str, str]


class House:
    """The Python files below `root` in the folders `TOPS`, by dotted name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Path] = {
            module_name(path.relative_to(root)): path for top in TOPS for path in sorted((root / top).rglob("*.py"))
        }

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of every file."""
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """For every file the files of the project that it imports, wherever in it the import stands."""
        return {name: frozenset(self._imported(tree)) - {name} for name, tree in self.trees.items()}

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names if each.name in self.files)
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    inner = f"{node.module}.{each.name}"
                    found = inner if inner in self.files else node.module
                    if found in self.files:
                        yield str(found)

    def edges(self) -> Iterator[Edge]:
        """Every (file, imported file)."""
        return ((name, other) for name, others in self.imports.items() for other in sorted(others))

    def cycles(self) -> list[list[str]]:
        """Groups of files each of which reaches every other of its group by imports."""
        reached = {name: reachable(name, self.imports) for name in self.files}
        groups = {
            tuple(sorted(other for other in reached[name] if name in reached[other]))
            for name in self.files
            if name in reached[name]
        }
        return [list(group) for group in sorted(groups)]

    def upward(self) -> list[Edge]:
        """Imports inside the harness from a room into one that does not lie below it."""
        level = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
        return [
            (name, other)
            for name, other in self.edges()
            if (mine := room_of(name)) is not None
            and (theirs := room_of(other)) is not None
            and mine != theirs
            and level[theirs] >= level[mine]
        ]

    def trespassing(self) -> list[Edge]:
        """Imports between the harness and its extensions other than from an extension into an open room, or from a program
        through the door.
        """
        return [
            (name, other)
            for name, other in self.edges()
            if (
                top_of(name) in EXTENSIONS
                and top_of(other) == "harness"
                and room_of(other) not in OPEN
                and other not in HELPERS
                and not (name.startswith(f"{PROGRAMS}.") and other == DOOR)
            )
            or (top_of(name) in ("harness", "hydra_plugins") and top_of(other) in EXTENSIONS)
        ]

    def long_functions(self) -> list[str]:
        """Functions of more than `LONGEST_FUNCTION` lines, decorators and docstring included."""
        return [
            f"{name}:{node.name}"
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > LONGEST_FUNCTION
        ]

    def long_files(self) -> list[str]:
        """Files of more than `LONGEST_FILE` lines."""
        return [
            name
            for name, path in self.files.items()
            if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
        ]

    def unplaced(self) -> list[str]:
        """Rooms of the harness that have no place in `LAYERS`."""
        known = {room for rooms in LAYERS for room in rooms}
        return sorted({room for name in self.files if (room := room_of(name)) is not None} - known)


def module_name(path: Path) -> str:
    """`a/b.py` -> `a.b`, `a/__init__.py` -> `a`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def top_of(name: str) -> str:
    """The first part of a dotted name: harness, methods, tasks, zoo or hydra_plugins."""
    return name.partition(".")[0]


def room_of(name: str) -> str | None:
    """The room of a file of the harness; None for the package itself (its version, which anybody may read) and for other files."""
    parts = name.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 else None


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first decorator, or `def`, to the end of the body."""
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return (node.end_lineno or first) - first + 1


def reachable(start: str, imports: Mapping[str, Iterable[str]]) -> set[str]:
    """Everything that `start` imports, directly or through others; `start` itself only if it lies on a cycle."""
    found: set[str] = set()
    ahead = list(imports[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(imports[name])
    return found
