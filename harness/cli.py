"""The command line: `heed run | probe | data | score | compare | gate | report | export |
bench | claims | calibrate | list | doctor | status | sync`.

Imported here is only what needs the standard library alone; each verb imports the rest, so `heed --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.contracts.options import number
from harness.errors import UserError
from harness.terminal.visible import visible

if TYPE_CHECKING:
    from harness.contracts.lesson import Learned
    from harness.contracts.recipe import Recipe

# what names methods and tasks is configuration
EXAMPLES = Path(__file__).resolve().parents[1] / "configs" / "examples.txt"


# What the system refuses wherever a name was used: the user's disk, permissions and names, not a bug.
SYSTEM = {
    errno.ENOSPC: "the disk is full ({}). What was finished stays; free space and run again.",
    errno.EDQUOT: "the disk is full ({}). What was finished stays; free space and run again.",
    errno.ENAMETOOLONG: "the name {} is longer than the system allows. Check what was given as a file or folder.",
    errno.ELOOP: "the name {} is a link that leads back to itself. Name the file itself.",
    errno.EACCES: "{} may not be read or written (permission denied). Check its permissions, or name another.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 fine, 1 a bug or a failed check, 2 a user's mistake, 130 interrupted)."""

    def verb() -> int:
        args = _parsed(sys.argv[1:] if argv is None else argv)
        return int(args.verb(args) or 0)

    return guarded(verb)


def learn(recipe: Recipe, results: Path) -> tuple[Learned, Path]:
    """For programs that make models: what a recipe learned, and its log, obtained as `heed run` would (`commands/learn.py`)."""
    from harness.commands.learn import learn

    return learn(recipe, results)


def guarded(program: Callable[[], int]) -> int:
    """The exit code of `program`, as that of a verb: a user's mistake, an interruption, a full disk are one paragraph."""
    try:
        return program()
    except UserError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt as interrupt:
        what = f" ({interrupt})" if str(interrupt) else ""
        _complain(f"interrupted{what}. What was finished is on disk; the same command continues there.")
        return 130
    except BrokenPipeError:  # `heed list | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in SYSTEM:
            raise
        name = str(error.filename or "results")
        _complain(SYSTEM[error.errno].format(name if len(name) <= 200 else f"{name[:200]}..."))
        return 2


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    args, rest = parser.parse_known_args(one_spelling(argv))
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(visible(f"unrecognized arguments: {' '.join(rest)}"))
    if rest:  # overrides behind a flag
        args.overrides = [*args.overrides, *rest]
    return args


RECORDS = {
    "compare": "--results",
    "claims": "--results",
    "export": "--results",
    "status": "--results",
    "gate": "--candidate",
    "report": "",
}


def one_spelling(argv: Sequence[str]) -> list[str]:
    """Every verb takes its results folder as `results=DIR` and as `--results DIR`, whichever it has itself (`report`: a place).

    >>> one_spelling(["compare", "a", "b", "results=x"]), one_spelling(["run", "--results", "x"])
    (['compare', 'a', 'b', '--results=x'], ['run', 'results=x'])
    """
    verb, *rest = [*argv] or [""]
    own = RECORDS.get(verb)
    out: list[str] = [verb] if argv else []
    words = iter(rest)
    for word in words:
        if word == "--results":
            word = f"results={next(words, '')}"
        folder = word.removeprefix("--results=") if word.startswith("--results=") else word.removeprefix("results=")
        if folder == word:
            out.append(word)
        elif not folder:
            raise UserError(f"{verb}: results= names no folder. Write results=DIR.")
        elif own is None:
            out.append(f"results={folder}")
        else:
            out.append(f"{own}={folder}" if own else folder)
    return out


def _complain(text: str) -> None:
    """To stderr; what the message quotes (a name, a path, a file's content) comes from outside."""
    print(f"heed: {visible(text)}", file=sys.stderr)


def console_script() -> None:
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heed",
        description="What does this attention method do to this model on this task?",
        epilog=EXAMPLES.read_text(encoding="utf-8"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"heed {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _measuring(verbs)
    _judging(verbs)
    _managing(verbs)
    return parser


Verbs = Any  # argparse's own type of a group of verbs is private


def _measuring(verbs: Verbs) -> None:
    """Verbs that make something: cells, examples, scores, calibrations; and what there is to make them of."""
    run = verbs.add_parser("run", help="run models x methods x tasks and print the table")
    run.add_argument("-m", "--multirun", action="store_true", help="sweep: commas make jobs (Hydra multirun)")
    run.add_argument(
        "--dry-run", action="store_true", help="print the cells, what is done, and an estimate; run nothing"
    )
    _overrides(run)
    run.set_defaults(verb=_run)

    probe = verbs.add_parser("probe", help="look into models on tasks: models x probes x tasks, to tables and pictures")
    probe.add_argument("-m", "--multirun", action="store_true", help="sweep: commas make jobs (Hydra multirun)")
    probe.add_argument("--dry-run", action="store_true", help="print the cells, what is done, and an estimate")
    _overrides(probe, "model=NAME probe=[a,b] task=[NAME], or key=value")
    probe.set_defaults(verb=_probe)

    data = verbs.add_parser(
        "data", help="write a task's examples to a file, for a model's tokenizer (no weights needed)"
    )
    _overrides(data, "task=NAME task.NAME.key=value ... out=FILE.jsonl [model=NAME]")
    data.set_defaults(verb=_data)

    score = verbs.add_parser("score", help="re-score outputs produced anywhere (no model needed)")
    _overrides(score, "task=NAME examples=A.jsonl outputs=B.jsonl out=C.json")
    score.set_defaults(verb=_score)

    calibrate = verbs.add_parser("calibrate", help="learn what a calibrated method needs to know about a model")
    _overrides(calibrate, "model=NAME method=NAME")
    calibrate.set_defaults(verb=_calibrate)

    listing = verbs.add_parser("list", help="list methods, probes, tasks or models with paper, needs and budget")
    listing.add_argument("what", nargs="?", choices=["methods", "probes", "tasks", "models"], help="default: all")
    listing.set_defaults(verb=_list)

    doctor = verbs.add_parser("doctor", help="what works on this machine, and what to install")
    doctor.add_argument("--deep", action="store_true", help="also compile FlexAttention once (half a minute)")
    doctor.set_defaults(verb=_doctor)


def _judging(verbs: Verbs) -> None:
    """Verbs that read records and say what they mean."""
    compare = verbs.add_parser(
        "compare", help="two runs, methods or models: paired differences, speed ratios, what differs"
    )
    compare.add_argument("a", metavar="A", help="a method, a model, a run id, or a run's folder")
    compare.add_argument("b", metavar="B", help="what A is compared with")
    compare.add_argument("--results", default="results", metavar="DIR", help="default: results")
    about = "the difference, in points, that power is stated for"
    some = number("--margin", 0.01, 100, about)
    compare.add_argument("--margin", type=some, default=1.0, metavar="POINTS", help=about)
    compare.set_defaults(verb=_compare)

    gate = verbs.add_parser("gate", help="for CI: is the candidate worse than the baseline? exit code 0, 1 (worse), 2")
    gate.add_argument(
        "--baseline", required=True, metavar="DIR", help="a results folder, for example results/reference"
    )
    gate.add_argument("--candidate", default="results", metavar="DIR", help="a results folder (default: results)")
    lost, ratio = "points of accuracy that may be lost", "tolerated ratio of times and memory"
    points = number("--margin", 0, 100, lost)
    gate.add_argument("--margin", type=points, default=1.0, metavar="POINTS", help=f"{lost} (default: 1)")
    slower = number("--slower", 1, 1000, ratio)
    gate.add_argument("--slower", type=slower, default=1.25, metavar="RATIO", help=f"{ratio} (default: 1.25)")
    gate.add_argument("--markdown", metavar="FILE", help="also write a summary for a pull request")
    gate.add_argument("--junit", metavar="FILE", help="also write JUnit XML")
    gate.set_defaults(verb=_gate)

    report = verbs.add_parser("report", help="the leaderboard: Markdown, CSV and one self-contained HTML page")
    report.add_argument(
        "results", nargs="*", default=["results"], metavar="DIR", help="results folders (default: results)"
    )
    report.add_argument("--out", default=None, metavar="DIR", help="where to write (default: DIR/leaderboard)")
    report.set_defaults(verb=_report)


def _managing(verbs: Verbs) -> None:
    """Verbs for other programs, for speed, for claims, and for what is under way."""
    export = verbs.add_parser("export", help="finished cells in the layout of another program (lm-eval)")
    export.add_argument("which", nargs="*", metavar="CELL", help="run ids, or labels of models, methods and tasks")
    export.add_argument("--format", required=True, metavar="LAYOUT", help="lm-eval")
    export.add_argument("--results", default="results", metavar="DIR", help="default: results")
    export.add_argument("--out", required=True, metavar="DIR", help="where to write")
    export.set_defaults(verb=_export)

    bench = verbs.add_parser("bench", help="speed and memory of methods over lengths and batch sizes, against dense")
    _overrides(bench, "model=NAME | model.random=SHAPE, method=[a,b], bench.lengths=[...] bench.batches=[...]")
    bench.set_defaults(verb=_bench)

    claims = verbs.add_parser("claims", help="what papers claim: reproduced, not reproduced or not tested")
    claims.add_argument(
        "--results", default="results", metavar="DIR", help="measured cells to judge by (default: results)"
    )
    claims.set_defaults(verb=_claims)

    status = verbs.add_parser("status", help="finished, running, failed and pending cells, from the records alone")
    status.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="results=DIR")
    status.add_argument("--results", default="results", metavar="DIR", help="default: results")
    seconds = number("--watch", 0.1, 86400, "seconds until it is shown again")
    again = "show it again (default: 5)"
    status.add_argument("--watch", nargs="?", type=seconds, const=5.0, default=None, metavar="SECONDS", help=again)
    status.set_defaults(verb=_status)

    sync = verbs.add_parser("sync", help="write finished cells to Weights & Biases again, from the records")
    sync.add_argument("--force", action="store_true", help="also cells that were written before")
    _overrides(sync, "results=DIR tracking=online|offline")
    sync.set_defaults(verb=_sync)


def _overrides(parser: argparse.ArgumentParser, text: str = "group=[a,b] or key=value") -> None:
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=text)


def _run(args: argparse.Namespace) -> int:
    from harness.launch.options import refuse_without_m

    overrides = args.overrides + (["dry_run=true"] if args.dry_run else [])
    if args.multirun:
        from harness.commands.sweep import sweep

        return sweep(overrides)
    refuse_without_m(overrides)
    from harness.commands import run

    return run.once(overrides)


def _probe(args: argparse.Namespace) -> int:
    from harness.commands import probe

    return probe.look(args.overrides + (["dry_run=true"] if args.dry_run else []), args.multirun)


def _data(args: argparse.Namespace) -> int:
    from harness.commands import data

    return data.write(args.overrides)


def _score(args: argparse.Namespace) -> int:
    from harness.commands import data

    return data.score(args.overrides)


def _calibrate(args: argparse.Namespace) -> int:
    from harness.commands import calibrate

    return calibrate.make(args.overrides)


def _list(args: argparse.Namespace) -> int:
    from harness.commands import catalog

    return catalog.show(args.what)


def _doctor(args: argparse.Namespace) -> int:
    from harness.commands import doctor

    return doctor.show(deep=args.deep)


def _compare(args: argparse.Namespace) -> int:
    from harness.commands import compare

    return compare.show(args.a, args.b, args.results, args.margin)


def _gate(args: argparse.Namespace) -> int:
    from harness.commands import gate

    return gate.run(args.baseline, args.candidate, args.margin, args.slower, args.markdown, args.junit)


def _report(args: argparse.Namespace) -> int:
    from harness.commands import report

    return report.write(args.results, args.out)


def _export(args: argparse.Namespace) -> int:
    from harness.commands import export

    return export.write(args.which, args.results, args.format, args.out)


def _bench(args: argparse.Namespace) -> int:
    from harness.commands import bench

    return bench.show(args.overrides)


def _claims(args: argparse.Namespace) -> int:
    from harness.commands import claims

    return claims.show(args.results)


def _status(args: argparse.Namespace) -> int:
    from harness.commands import status

    return status.show(args.overrides, args.results, args.watch)


def _sync(args: argparse.Namespace) -> int:
    from harness.commands import run

    return run.sync(args.overrides, force=args.force)


if __name__ == "__main__":
    console_script()
