"""The run id: everything that can change a number, and nothing else."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.config.compose import compose
from harness.disk.content import file_digest
from harness.identity import run_id, sources
from harness.plan.cells import cells
from harness.plan.identities import method_identity

CACHES = (
    sources._sources, sources.code_digest, sources.imported, sources.module_file, sources._spec, sources._is_project,
)  # fmt: skip
BASE = ["method=[dense,power]", "task=[passkey]"]


def ids(*overrides):
    return {c.method_label: c.run_id for c in cells(compose([*BASE, *overrides]))}


@pytest.mark.parametrize(
    "override",
    [
        "batch_tokens=64",
        "efficiency=full",
        "results=elsewhere",
        "tracking=offline",
        "model.micro-lm.device=cpu",
        "dry_run=true",
        "allow_errors=3",
    ],
)
def test_what_cannot_change_a_number_stays_out(override):
    assert ids() == ids(override)


@pytest.mark.parametrize(
    "override",
    ["seed=7", "limit=3", "model.micro-lm.dtype=bfloat16", "model.micro-lm.backend=eager",
     "task.passkey.trials=3", "task.passkey.policy=contains"],
)  # fmt: skip
def test_what_can_change_a_number_changes_every_id(override):
    before, after = ids(), ids(override)
    assert all(before[m] != after[m] for m in before)


def test_a_method_parameter_changes_that_method_alone():
    before, after = ids(), ids("method.power.window_blocks=6")
    assert before["dense"] == after["dense"] and before["power"] != after["power"]


def test_equal_meaning_equal_id():
    written_out = compose(BASE).method.power.window_blocks
    assert ids() == ids(f"method.power.window_blocks={written_out}")


def test_an_equal_cell_under_two_labels_is_one_cell():
    plan = cells(compose([*BASE, "+method.again=${method.power}"]))
    assert len(plan) == 2


def test_id_from_the_stored_identity():
    import json

    for cell in cells(compose(BASE)):
        stored = json.loads(json.dumps(cell.config("ci")))
        assert run_id.run_id(stored["identity"]) == cell.run_id


def test_dense_comes_first_for_each_task():
    plan = cells(compose(["method=[power,quest]", "task=[passkey,ruler]"]))
    assert [c.method_label for c in plan] == ["dense", "power", "quest"] * 2


def test_a_comment_or_docstring_in_the_source_does_not_count(tmp_path):
    one, two, three = (tmp_path / f"{n}.py" for n in "abc")
    one.write_text('"""Doc."""\n\ndef f(x):\n    """Say."""\n    return x + 1  # why\n')
    two.write_text("def f(x):\n    return (x\n        + 1)\n")
    three.write_text("def f(x):\n    return x + 2\n")
    assert sources.code_digest(one) == sources.code_digest(two) != sources.code_digest(three)


def test_what_guessing_scores_is_stored_and_is_no_part_of_the_identity():
    (cell,) = cells(compose(["model=micro-vlm", "method=[dense]", "task=[pope]"]))
    assert cell.config("ci")["task_facts"]["chance"] == dict.fromkeys(
        ("accuracy", "accuracy_random", "accuracy_popular", "accuracy_adversarial"), 0.5
    )
    assert "chance" not in run_id.canonical(cell.identity)


def test_the_path_of_a_data_file_is_replaced_by_its_content(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "sub" / "b.txt", tmp_path / "c.txt"]
    files[1].parent.mkdir()
    for file, text in zip(files, ("one two three. " * 50, "one two three. " * 50, "four five six. " * 50), strict=True):
        file.write_text(text)
    a, b, c = ({c.run_id for c in cells(compose(["task=perplexity", f"task.perplexity.path={f}"]))} for f in files)
    assert a == b != c


def test_whole_numbers_are_written_one_way():
    @dataclass(frozen=True)
    class Part:
        x: float

    assert run_id.extension_identity(Part(2.0))["params"] == run_id.extension_identity(Part(2))["params"]


def test_source_is_the_same_whatever_was_imported_before():
    code = """
from harness.identity.sources import _sources
before = _sources(("tasks.passkey.task",))
import sys
assert "zoo" not in sys.modules
from tasks.passkey import Passkey
from harness.identity import sources
sources._spec.cache_clear(), sources.module_file.cache_clear(), _sources.cache_clear()
assert "zoo.material.text.words" in sys.modules and _sources(("tasks.passkey.task",)) == before
print(*(name for name, _ in before))
"""
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"tasks.passkey.task", "zoo", "zoo.material.text.words"} <= set(names)


def test_source_follows_imports_of_the_same_package():
    from methods.cache.snapkv import SnapKV

    assert "methods.cache.rows" in sources.class_sources(SnapKV)  # a helper's change is the method's change


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
import mymethod_helper
from harness.contracts.method import Method

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    name: ClassVar[str] = "mine"
    title: ClassVar[str] = "mine"
    paper: ClassVar[str] = "own"

    def attn_out(self, ctx, a):
        from methods.cache.rows import layout
        from mymethod.deep import strength  # in a package beside it, inside a function
        return a * strength() * mymethod_helper.FACTOR
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder with a method of somebody else's; returns what it takes to edit a file and plan anew."""
    (tmp_path / "mymethod").mkdir()
    for name, text in {
        "mymethod_plugin.py": PLUGIN, "mymethod_helper.py": "from mymethod import FACTOR\n", "mymethod/__init__.py": "FACTOR = 2\n",
        "mymethod/deep.py": "import numpy\ndef strength():\n    return 3\n", "unrelated.py": "x = 1\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    def planned(name: str = "", text: str = "") -> str:
        if name:
            (tmp_path / name).write_text(text)
        for cached in CACHES:
            cached.cache_clear()  # as a new process would begin
        (cell,) = cells(
            compose(["task=passkey", "method=[]", "baseline=false", "+method.mine={_target_: mymethod_plugin.Mine}"])
        )
        return cell.run_id

    yield planned
    for name in [n for n in sys.modules if n.startswith("mymethod")]:
        del sys.modules[name]
    for cached in CACHES:
        cached.cache_clear()


@pytest.mark.parametrize(
    "name", ["mymethod_plugin.py", "mymethod_helper.py", "mymethod/__init__.py", "mymethod/deep.py"]
)
def test_every_file_that_a_plugin_imports_counts(plugin, tmp_path, name):
    before = plugin()
    code = (tmp_path / name).read_text()
    assert plugin(name, f"# said\n{code}") == before != plugin(name, f"{code}\nX = 1\n")
    assert plugin(name, code) == plugin("unrelated.py", "x = 2\n") == before


def test_a_helper_of_the_project_counts_for_a_class_from_outside(plugin):
    from importlib import import_module

    plugin()
    found = sources.class_sources(import_module("mymethod_plugin").Mine)
    assert {"methods.cache.rows", "mymethod", "mymethod.deep", "mymethod_helper", "mymethod_plugin"} <= set(found)
    assert not any(name.partition(".")[0] in ("harness", "numpy", "dataclasses", "torch") for name in found)


def test_a_package_among_the_libraries_counts_where_the_class_comes_from_it(tmp_path, monkeypatch):
    (tmp_path / "installed_one.py").write_text("import installed_two\nclass One:\n    pass\n")
    (tmp_path / "installed_two.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sources, "_library_roots", lambda: frozenset({tmp_path}))
    from importlib import import_module

    assert set(sources.class_sources(import_module("installed_one").One)) == {"installed_one"}


def test_code_that_cannot_be_parsed_counts_by_its_bytes(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    assert sources.code_digest(broken) and sources.imported(broken, "broken") == ()


def test_versions_of_what_computes_are_in_the_id(monkeypatch):
    before = ids()
    assert set(cells(compose(BASE))[0].identity["libraries"]) == {"torch", "transformers"}
    real = run_id.metadata.version
    for installed, same in (("99.1.5", False), (real("torch") + ".post1", True)):
        run_id.libraries.cache_clear()
        monkeypatch.setattr(run_id.metadata, "version", lambda name, v=installed: v if name == "torch" else real(name))
        assert (ids() == before) is same
    monkeypatch.undo()
    run_id.libraries.cache_clear()


def test_no_path_of_calibration_data_is_in_the_id(tmp_path):
    from methods.activations.iri import QUESTIONS, Injection

    same = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / f"{name}.txt"
        file.write_text("one two three. " * 50)
        node = {"_target_": "tasks.perplexity.Perplexity", "path": str(file)}
        same.append(run_id.canonical(method_identity(Injection(calibrate_on=node))))
    assert same[0] == same[1] and str(tmp_path) not in same[0]
    written_out = Injection(calibrate_on={**QUESTIONS, "scenes": 60})
    assert (
        method_identity(written_out)
        == method_identity(Injection())
        != method_identity(Injection(calibrate_on={**QUESTIONS, "scenes": 61}))
    )


def test_the_path_of_a_data_folder_is_replaced_by_its_content(tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("one two three. " * 50)
        made += [c.run_id for c in cells(compose(["task=perplexity", f"task.perplexity.path={tmp_path / name}"]))]
    assert made[0] == made[1]


def test_config_json_says_what_was_read_and_how(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one two three. " * 50)
    (cell,) = cells(compose(["task=perplexity", f"task.perplexity.path={file}"]))
    stored = cell.config("ci")["identity"]
    assert len(stored["model"]["tokenizer"]) == 64 and stored["model"]["backend"] == "sdpa"
    assert stored["model"]["template"] and stored["task"]["data"] == [f"sha256:{file_digest(file)}"]


def test_lowering_counts_for_patterns_alone():
    before, after = ids(), ids("lowering=dense")
    assert before["dense"] == after["dense"] and before["power"] != after["power"]


def test_a_limit_that_takes_nothing_away_does_not_count():
    assert ids() == ids("limit=100000") != ids("limit=2")


def test_golden_run_id():
    """A change here means that every stored result gets a new id: raise VERSION and say so in the changelog."""
    assert run_id.run_id({"version": 2, "seed": 0, "method": {"params": {"b": 2, "a": [1, "x"]}}}) == "7ed7022f53ac897d"


def test_an_id_put_together_from_written_parts_is_that_of_the_whole_and_of_its_canonical_text():
    whole = {"b": {"y": [1, 2.5, None], "x": '\u00e9 "'}, "a": 1, "\u00fc": True}
    parts = run_id.written({"a": 1}) | run_id.written({"\u00fc": True, "b": whole["b"]})
    assert run_id.run_id_of(parts) == run_id.run_id(whole) == run_id.sha256(run_id.canonical(whole))[:16]
