"""Plug-ins: packages of somebody else, installed for real, listed, run and found in the run id; broken ones cost nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import small

EXAMPLE = Path(__file__).parents[1] / "plugin"
ROOT = EXAMPLE.parents[1]
INSTALL = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
IDS = """
from harness.config.compose import compose
from harness.plan.cells import cells
print({cell.label: cell.run_id for cell in cells(compose(["suite=walk"]))})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages in which the example is; its name is that of libraries, which no run id looks into."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(EXAMPLE, folder / "source")  # building writes beside the sources
    small.save(source / "heed_wander" / "lm", max_position_embeddings=1024)
    pip([*INSTALL, "--target", str(folder / "site-packages"), str(source)])
    return folder / "site-packages"


@pytest.fixture
def copy(site, tmp_path):
    """The same, to be spoilt."""
    return shutil.copytree(site, tmp_path / "site-packages")


def pip(args, *before):
    subprocess.run([sys.executable, "-m", "pip", *before, *args], check=True, capture_output=True)


def python(*args, site=None, program=sys.executable):
    places = [str(ROOT), *([str(site)] if site else []), *sys.path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(places), "COLUMNS": "200"}
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=300, env=env, cwd=ROOT)


def heed(*args, **where):
    return python("-m", "harness.cli", *args, **where)


def told(result):
    """What stands on stderr: paragraphs and nothing else."""
    assert "Traceback" not in result.stderr
    return [line for line in result.stderr.splitlines() if line]


def second(site, name, **parts):
    """Another installed plug-in, `name`, with the option files `group__option="content"`."""
    package = name.replace("-", "_")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[heed.plugins]\nx = {package}.configs\n")
    for part, content in parts.items():
        group, _, option = part.partition("__")
        file = site / package / "configs" / group / f"{option}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return site / package


def test_its_parts_are_listed_beside_heeds_own(site):
    result = heed("list", site=site)
    assert result.returncode == 0 and not result.stderr
    assert "wander" in result.stdout and "a word told before a walk" in result.stdout
    assert "Of plug-ins: wander (heed-wander 0.1)." in result.stdout


def test_its_suite_runs_and_its_section_of_the_preset_can_be_set(site, tmp_path):
    result = heed("run", "suite=walk", "efficiency=off", f"results={tmp_path}", "preset.wander.recent=20", site=site)
    assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
    configs = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/config.json")]
    params = {c["labels"]["method"]: c["identity"]["method"]["params"] for c in configs}
    assert params["wander"] == {"recent": 20, "step": 4} and set(params) == {"dense", "wander"}
    assert len(list(tmp_path.glob("runs/*/DONE"))) == 2


def test_its_probe_looks_at_its_model(site, tmp_path):
    words = ["model=wander-lm", "probe=[nearness]", "task=[riddle]", "tracking=disabled", f"results={tmp_path}"]
    result = heed("probe", *words, site=site)
    assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
    (folder,) = tmp_path.glob("runs/*")
    assert json.loads((folder / "config.json").read_text())["labels"]["model"] == "wander-lm"
    table = json.loads((folder / "tables" / "mean.json").read_text())
    assert [layer for layer, _ in table["rows"]] == [0, 1, 2] and all(0 < near < 1 for _, near in table["rows"])


def test_another_preset_has_its_sections_too(site):
    result = heed("run", "suite=walk", "preset=small", "method.wander.recnt=3", site=site)
    assert told(result) == [
        "heed: Unknown key 'method.wander.recnt' (in method.wander): did you mean 'recent'? Known: recent, step."
    ]


def test_its_helper_files_are_in_the_run_id(copy):
    before = python("-c", IDS, site=copy).stdout
    helper = copy / "heed_wander" / "steps.py"
    helper.write_text(helper.read_text() + "\n# a remark\n")
    assert python("-c", IDS, site=copy).stdout == before != ""
    helper.write_text(helper.read_text().replace("<", "<="))
    old, new = (eval(text) for text in (before, python("-c", IDS, site=copy).stdout))
    moved = {label for label in old if old[label] != new[label]}
    assert moved == {"micro-lm / wander / riddle"}


def test_an_editable_install_is_the_same_plug_in(tmp_path):
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    program = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (pure,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (pure / "shared.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))  # what builds it
    pip([*INSTALL, "--editable", str(source)], "--python", program)
    assert "Of plug-ins: wander (heed-wander 0.1)." in heed("list", "methods", program=program).stdout
    before = python("-c", IDS, program=program).stdout
    helper = source / "heed_wander" / "steps.py"
    helper.write_text(helper.read_text().replace("<", "<="))
    assert "" != python("-c", IDS, program=program).stdout != before != ""


# -- what is wrong with it -------------------------------------------------------------------------------------------


def test_one_that_raises_at_import_is_told_and_the_rest_is_listed(copy):
    (copy / "heed_wander" / "method.py").write_text("import heed_wander.task\nraise RuntimeError('no licence')\n")
    listed = heed("list", site=copy)
    assert listed.returncode == 0
    (paragraph,) = told(listed)
    assert "method.wander" in paragraph and "plug-in heed-wander 0.1" in paragraph and "no licence" in paragraph
    assert "streaming_kv" in listed.stdout and "a word told before a walk" in listed.stdout


def test_one_that_raises_at_import_fails_only_runs_that_ask_for_it(copy):
    (copy / "heed_wander" / "method.py").write_text("def broken(:\n")
    asked = heed("run", "method=[wander]", "--dry-run", site=copy)
    assert asked.returncode == 2
    (paragraph,) = told(asked)
    assert "method.wander" in paragraph and "SyntaxError" in paragraph and "pip uninstall heed-wander" in paragraph
    other = heed("run", "task=[riddle]", "--dry-run", site=copy)
    assert other.returncode == 0 and not other.stderr


def test_a_name_that_heed_has_leaves_the_plug_in_out(copy):
    options = copy / "heed_wander" / "configs" / "method"
    (options / "power.yaml").write_text("power:\n  _target_: heed_wander.method.Wander\n")
    listed = heed("list", "methods", site=copy)
    assert listed.returncode == 0 and "Of plug-ins" not in listed.stdout and "power" in listed.stdout
    (paragraph,) = told(listed)
    assert "plug-in heed-wander 0.1 is left out: method 'power' is a name that heed itself has" in paragraph


def test_a_name_that_another_plug_in_has_leaves_the_later_one_out(copy):
    second(copy, "heed-zigzag", method__wander="wander:\n  _target_: heed_zigzag.method.Zigzag\n")
    listed = heed("list", "methods", site=copy)
    (paragraph,) = told(listed)
    assert "plug-in heed-zigzag 1.0 is left out: method 'wander'" in paragraph
    assert "the plug-in heed-wander 0.1 has" in paragraph
    assert "Of plug-ins: wander (heed-wander 0.1)." in listed.stdout


def test_a_section_that_a_preset_has_leaves_the_plug_in_out(site, tmp_path):
    second(tmp_path, "heed-zigzag", preset__ci="power:\n  block_size: 99\n")
    result = heed("run", "method=[power]", "--dry-run", site=tmp_path)
    (paragraph,) = told(result)
    assert result.returncode == 0 and "heed-zigzag 1.0 is left out: section 'power' of preset 'ci'" in paragraph


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("zigzag: [1\n", "is no YAML"),
        ("- zigzag\n", "must be a mapping"),
        ("power:\n  block_size: 99\n", "must hold one key, 'zigzag'"),
    ],
)
def test_an_option_file_that_cannot_be_used_leaves_the_plug_in_out(tmp_path, content, words):
    second(tmp_path, "heed-zigzag", method__zigzag=content)
    result = heed("run", "--dry-run", site=tmp_path)
    (paragraph,) = told(result)
    assert result.returncode == 0 and "heed-zigzag 1.0 is left out" in paragraph and words in paragraph


def test_one_without_its_folder_is_left_out(copy):
    shutil.rmtree(copy / "heed_wander" / "configs")
    result = heed("run", "method=[wander]", site=copy)
    left_out, unknown = told(result)
    assert "the plug-in heed-wander is left out" in left_out and "names no folder" in left_out
    assert "Unknown method 'wander'" in unknown and result.returncode == 2
