"""lm-evaluation-harness as a library: which of its tasks there are, and those that are asked for, with their data.

Nothing here runs a model. Tasks are loaded as `lm_eval.simple_evaluate` loads them (the settings that a caller may
override, the seeds), but each entry by itself, so that no task depends on its neighbours. The library's seeds are global
ones; here they hold during its own calls and are put back afterwards.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.disk import hub
from harness.disk.reading import is_file
from harness.errors import UserError, nearest
from tasks.lm_eval import files

RANDOM_SEED, NUMPY_SEED = 0, 1234  # lm_eval.defaults: what its command line sets by default


@dataclass(frozen=True)
class Wanted:
    """What decides which tasks are loaded and how. Hashable, so that each is loaded once in a process."""

    tasks: tuple[str, ...]
    include: tuple[str, ...] = ()
    num_fewshot: int | None = None
    gen_kwargs: str = "{}"  # JSON
    unsafe_code: bool = False


@dataclass(frozen=True, eq=False)
class Loaded:
    """Tasks by name, groups by name (with the library's own objects), and where their configurations stand."""

    tasks: Mapping[str, Any]
    groups: Mapping[str, Any]
    files: Mapping[str, Path | None]

    @cached_property
    def docs(self) -> Mapping[str, Any]:
        """The evaluated documents of each task, indexable by number."""
        return {name: task.eval_docs for name, task in self.tasks.items()}


def require() -> None:
    """`UserError` unless lm-evaluation-harness is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "task=lm_eval needs lm-evaluation-harness, which is not installed: pip install 'heed[lm-eval]' (in a checkout "
            "of heed: pip install -c constraints.txt -e '.[lm-eval]')."
        )


def version() -> str:
    """The installed version of lm-evaluation-harness."""
    from importlib import metadata

    return metadata.version("lm_eval")


@contextlib.contextmanager
def library_seeds() -> Iterator[None]:
    """Inside, Python's and numpy's global generators stand where the library puts them before it builds a task."""
    import numpy as np

    kept = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, the library's warnings and progress bars are not shown."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def applied(name: str) -> Iterator[None]:
    """Inside, a task's own templates and functions meet its documents: what fails there is the task's, not a bug of ours."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The lm-eval task '{name}' cannot be applied to its documents ({_said(error)}). Check its templates against the "
            "keys of the documents, and task.lm_eval.num_fewshot against their number."
        ) from error


@cache
def _manager(folders: tuple[str, ...], whole: bool) -> Any:
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=list(folders) or None, include_defaults=whole)


def package() -> Path:
    """The folder of the library's own tasks."""
    found = importlib.util.find_spec("lm_eval")
    assert found is not None and found.origin
    return (Path(found.origin).parent / "tasks").resolve()


def manager(names: Sequence[str], include: tuple[str, ...]) -> Any:
    """The library's index of tasks. Reading all of it takes ten seconds; what stands in the folders of `include`, or in
    a folder of the library that begins its name, is found without, as long as no tag is among it: members of a tag may
    stand anywhere.
    """
    near = [
        p for p in sorted(package().iterdir()) if p.is_dir() and any(f"{n}_".startswith(f"{p.name}_") for n in names)
    ]
    quick = _manager((*map(str, near), *include), False)
    if all(_complete(quick.task_index, name) for name in names):
        return quick
    return _manager(include, True)


def _complete(index: Mapping[str, Any], name: Any) -> bool:
    """Whether a part of the index knows a task, or a group with all that belongs to it."""
    if isinstance(name, dict):
        name = name.get("group") or name.get("task")
    entry = index.get(name)
    if entry is None or entry.kind.name == "GROUP":
        members = (entry.cfg or {}).get("task") if entry is not None else None
        return isinstance(members, list) and all(_complete(index, member) for member in members)
    return bool(entry.kind.name in ("TASK", "PY_TASK"))


@cache
def load(wanted: Wanted) -> Loaded:
    """The tasks, with data and settings. `UserError` for unknown names, missing data, and what cannot be served here."""
    require()
    files.check_folders(wanted.include)
    index = manager(wanted.tasks, wanted.include)
    for name in wanted.tasks:
        if name not in index.task_index:
            raise _unknown(name, index.all_tasks, wanted.include)
    if not wanted.unsafe_code:
        files.refuse_code(index.task_index, wanted.tasks, package())
    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for name in wanted.tasks:
        found = _load_one(index, name)
        if twice := sorted(set(found["tasks"]) & set(tasks)):
            raise UserError(f"task.lm_eval.tasks names the task '{twice[0]}' twice (groups count with their members).")
        tasks |= found["tasks"]
        groups |= found.get("groups") or {}
    for name, task in tasks.items():
        _check(name, task, wanted.unsafe_code)
        _configure(task, wanted.num_fewshot, json.loads(wanted.gen_kwargs))
    entries = {name: index.task_index.get(name) for name in tasks}
    return Loaded(tasks, groups, {name: entry.yaml_path if entry else None for name, entry in entries.items()})


def _unknown(name: str, known: Sequence[str], folders: tuple[str, ...]) -> UserError:
    text = f"task.lm_eval.tasks: lm-evaluation-harness {version()} has no task '{name}': {_near(name, known)}"
    if broken := files.problems(folders):
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        return UserError(
            f"{text} A file of task.lm_eval.include cannot be read, so what it holds is not known: {broken[0]}{more}."
        )
    return UserError(f"{text} Folders with tasks of your own are named by task.lm_eval.include=[FOLDER].")


def _near(name: str, known: Sequence[str]) -> str:
    """The nearest names alone: a list of all of them would fill screens."""
    text = nearest(name, known)
    return text.split(" Known:")[0] if "did you mean" in text else f"it knows {len(known):,} others."


def _load_one(index: Any, name: str) -> Any:
    data = files.local_data(index.task_index, name)
    files.check_data(data)
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)  # data sets show their own progress
    hub.quick()
    try:
        with library_seeds():
            return index.load([name])
    except ModuleNotFoundError as error:
        raise UserError(
            f"The lm-eval task '{name}' needs the Python package '{error.name}': pip install {error.name}"
        ) from error
    except Exception as error:  # a download fails in many ways, and none of them is a bug of ours
        files.diagnose(data)
        if data and all(map(is_file, data)):
            raise UserError(
                f"The lm-eval task '{name}' cannot be loaded ({_said(error)}). Its data are here ({', '.join(map(str, data))}): "
                "check that all rows have the same keys, with values of the same type, and the task's own file."
            ) from error
        raise UserError(
            f"The lm-eval task '{name}' cannot be loaded ({_said(error)}). If its data are not here, there "
            "are three ways to get them: hub (run once with a network; they stay in the cache of Hugging Face, and "
            "HF_HUB_OFFLINE=1 then uses them without one); path (a YAML file with `include:` of the task's own and "
            "`dataset_path:` of a local copy, in a folder named by task.lm_eval.include); generate (the same with "
            "`dataset_path: json` and files that you write)."
        ) from error
    finally:
        log.setLevel(level)


def _said(error: BaseException) -> str:
    """What failed first, in its own words: a data library wraps it in errors that say less."""
    while error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__):
        error = error.__cause__ or error.__context__ or error
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check(name: str, task: Any, unsafe_code: bool) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"The lm-eval task '{name}' shows pictures or sound, and heed gives its tasks text only.")
    if getattr(task, "UNSAFE_CODE", False) and not unsafe_code:
        raise UserError(
            f"The lm-eval task '{name}' executes code that the model writes. If this machine may do that, say so with "
            "task.lm_eval.unsafe_code=true."
        )


def _configure(task: Any, num_fewshot: int | None, gen_kwargs: Mapping[str, Any]) -> None:
    """The settings that the library's own command line overrides, by its own rules."""
    if gen_kwargs and task.get_config("output_type") == "generate_until":
        task.set_config(key="generation_kwargs", value=dict(gen_kwargs), update=True)
    own = task.get_config("num_fewshot")
    if num_fewshot is not None and own != 0:  # a task that says 0 means it
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
