"""The house stands: no circles, no import upwards, extensions reach the engine through its contracts alone, nothing is too long."""

from pathlib import Path

import pytest

from tests.house import House

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


def test_no_file_imports_itself_through_others(house):
    assert house.cycles() == []


def test_imports_inside_the_harness_point_down(house):
    assert house.upward() == []


def test_every_room_of_the_harness_has_its_place_in_the_order(house):
    assert house.unplaced() == []


def test_extensions_know_the_contracts_alone_and_the_harness_knows_no_extension(house):
    assert house.trespassing() == []


def test_every_function_fits_a_screen(house):
    assert house.long_functions() == []


def test_every_file_is_short(house):
    assert house.long_files() == []


def test_the_top_of_the_harness_is_three_files(house):
    assert sorted(path.name for path in (ROOT / "harness").glob("*.*")) == ["__init__.py", "cli.py", "errors.py"]


# The checks themselves, on small made-up houses.


def built(root: Path, files: dict[str, str]) -> House:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return House(root)


@pytest.mark.parametrize(
    "back",
    [
        "import harness.disk.a\n",
        "def f():\n    from harness.disk import a\n",
        "if TYPE_CHECKING:\n    from harness.disk.a import A\n",
    ],
    ids=["at the top", "in a function", "for types alone"],
)
def test_a_circle_is_found_wherever_its_imports_stand(tmp_path, back):
    house = built(
        tmp_path,
        {
            "harness/disk/a.py": "from harness.disk.b import B\n",
            "harness/disk/b.py": back,
            "harness/disk/c.py": "from harness.disk import a\n",
        },
    )
    assert house.cycles() == [["harness.disk.a", "harness.disk.b"]]


def test_an_import_into_a_higher_room_is_found(tmp_path):
    files = {
        "harness/disk/a.py": "from harness.models.b import B\n",
        "harness/models/b.py": "from harness.contracts.c import C\n",
    }
    house = built(tmp_path, files | {"harness/contracts/c.py": ""})
    assert house.upward() == [("harness.disk.a", "harness.models.b")]


def test_rooms_that_lie_side_by_side_do_not_import_each_other(tmp_path):
    house = built(tmp_path, {"harness/tracking/a.py": "import harness.launch.b\n", "harness/launch/b.py": ""})
    assert house.upward() == [("harness.tracking.a", "harness.launch.b")]


def test_a_room_without_a_place_is_found(tmp_path):
    assert built(tmp_path, {"harness/cellar/a.py": "", "harness/disk/b.py": ""}).unplaced() == ["cellar"]


def test_an_extension_that_reaches_past_the_contracts_is_found(tmp_path):
    house = built(
        tmp_path,
        {
            "methods/a.py": "from harness.contracts.c import C\nfrom harness.models.view import View\n",
            "harness/contracts/c.py": "",
            "harness/models/view.py": "from tasks.t import T\n",
            "tasks/t.py": "from zoo.z import Z\n",
            "zoo/z.py": "from harness.disk.d import D\n",
            "harness/disk/d.py": "",
        },
    )
    assert house.trespassing() == [("harness.models.view", "tasks.t"), ("methods.a", "harness.models.view")]


def test_what_is_too_long_is_found(tmp_path):
    body = "    x = 1\n" * 39
    house = built(
        tmp_path,
        {
            "tasks/a.py": f"def fits():\n{body}\n\n@once\ndef long():\n{body}",
            "tasks/b.py": "x = 1\n" * 401,
            "tasks/c.py": "x = 1\n" * 400,
        },
    )
    assert house.long_functions() == ["tasks.a:long"]
    assert house.long_files() == ["tasks.b"]
