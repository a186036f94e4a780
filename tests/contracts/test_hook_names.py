"""Nobody keeps a list of hooks beside the table."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.contracts.hooks import HOOKS

ROOT = Path(__file__).parents[2]
TABLE = ("harness/contracts/hooks.py", "harness/contracts/method.py")


def named_without_a_call(source: str) -> set[str]:
    """Hooks that a file names in a text without calling them, or handing them on, itself."""
    nodes = list(ast.walk(ast.parse(source)))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return (texts & set(HOOKS)) - called


def test_only_those_who_call_a_hook_name_it() -> None:
    files = {str(path.relative_to(ROOT)): path for path in (ROOT / "harness").rglob("*.py")}
    found = {(name, hook) for name, path in files.items() for hook in named_without_a_call(path.read_text())}
    assert len(files) > 100 and {(name, hook) for name, hook in found if name not in TABLE} == set()


def test_a_list_of_hooks_elsewhere_is_found() -> None:
    assert named_without_a_call('READS = ("pattern", "select")\nmethod.select(ctx, q, k)') == {"pattern"}
    assert named_without_a_call('if "logits" in hooks:\n    head.register(method.logits)') == set()
