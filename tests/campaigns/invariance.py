"""Batch invariance: what a sample answers and what it read do not depend on how samples were batched or shared.

Every method of the test matrices runs on a tiny random model through the run loop, on prompts of several lengths (some below
the methods' budgets) with limits and stop ids that end rows early; with batches of one sample, of a few and of all, with
and without what may be shared. Texts, counts and bytes must be equal to the last digit. Likelihoods and the means that a
method reports about its own arithmetic come from kernels that add up in another order for another batch size: they may
differ by `CLOSE`. A near tie between two tokens could flip for the same reason; the tiny models' output matrices are spread
out so far that the seeds used here meet none (a seed that does would fail with two texts, not with two counts).

    python -m tests.campaigns.invariance --kind generate --family llama --method quest --seed 0
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from harness.config.compose import compose
from harness.contracts.example import Example
from harness.contracts.method import Method
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Generate, GenerateUntil, Likelihood, LogLikelihood, Requests
from harness.contracts.task import Task, example_rng
from harness.contracts.tokens import Tokens
from harness.plan.cells import cells
from harness.running.run import RunSettings, execute
from tests import tiny_vlm
from tests.matrix import CASES
from tests.methods import picture_matrix
from tests.models import small

BUDGETS = (1, 450, 8192)
WAYS = tuple((budget, share) for budget in BUDGETS for share in (False, True))  # the first is every sample alone
CLOSE = 2e-4  # nats, and shares: float32 through a few layers with large random weights
WORDS = (
    "the", "key", "of", "a", "red", "door", "is", "in", "my", "old", "box", "under", "her", "bed", "nobody", "knows",
)  # fmt: skip
STOPS = 24  # of about 260 ids: about every eleventh token ends its row


@dataclass(frozen=True, kw_only=True)
class Continuations(Task):
    """Texts to go on from, in `lengths` of bytes, each with a limit of its own; `pictures`: how many stand before them. The
    last bytes of a text are its question.
    """

    says_question = True
    metrics = (Metric("length", percent=False),)

    n: int = 12
    lengths: tuple[int, ...] = (36, 92, 92, 131, 131, 170)
    pictures: int = 0

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for i in range(self.n):
            rng = example_rng("continuations", self.seed, i)
            text = " ".join(rng.choice(WORDS) for _ in range(200))[: self.lengths[i % len(self.lengths)]]
            images = (f"{self.seed}-{i % self.pictures}",) if self.pictures else ()
            limit, asked = rng.choice((1, 5, 9, 14)), text[-rng.choice((4, 7, 7)) :]
            yield Example(f"{i:02}", Generate(text, images=images, max_new_tokens=limit, query=asked))

    def score(self, example: Example, answer: Any) -> Score:
        return Score({"length": float(len(answer or ""))})

    def image(self, name: str) -> Image.Image:
        seed, i = map(int, name.split("-"))
        return tiny_vlm.images(self.pictures, seed)[i]


@dataclass(frozen=True, kw_only=True)
class Pictured(Continuations):
    """Questions about a few pictures, several about each."""

    says_question = False
    needs_images = True
    lengths: tuple[int, ...] = (9, 24, 24, 33, 31)  # with what methods add, within a Q-Former's 128 tokens
    pictures: int = 3


@dataclass(frozen=True, kw_only=True)
class Likelihoods(Continuations):
    """The surprise of the last tokens of each text."""

    says_question = False
    asks = Likelihood

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for e in super().examples(tokens):
            text = e.asks(Generate)
            yield replace(e, question=Likelihood(tuple(tokens.prompt_ids(text.prompt)), text.max_new_tokens))


@dataclass(frozen=True, kw_only=True)
class Choices(Continuations):
    """Two continuations of each text to be compared, and one to be written."""

    says_question = False
    asks = Requests

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for e in super().examples(tokens):
            text = e.asks(Generate)
            asked = (
                *(LogLikelihood(0, one) for one in (" a box", " it")),
                GenerateUntil(0, ("zq",), text.max_new_tokens),
            )
            yield replace(e, question=Requests(asked, (str(text.prompt),)))


TASKS: dict[str, type[Continuations]] = {
    "generate": Continuations, "nll": Likelihoods, "requests": Choices, "pictures": Pictured,
}  # fmt: skip
QUICK = {"_target_": "tasks.pope.Pope", "source": "scenes", "scenes": 4, "seed": 77, "suffix": "one_word"}


def methods(kind: str, family: str) -> dict[str, Method]:
    """The methods of the matrices that serve a family (of `tests.models.small`, `tests.tiny_vlm`) on a kind of task."""
    if kind == "pictures":
        found = {str(c): c.acts for c in picture_matrix.CASES if family in c.families}
        return {k: replace(m, questions=4, calibrate_on=QUICK) if k == "iri" else m for k, m in found.items()}  # type: ignore[call-arg]
    able = [c for c in CASES if family != "gpt2" or "rotary" not in c.acts.needs]
    if kind in ("nll", "requests"):  # one pass over a text: methods that act afterwards are refused
        able = [c for c in able if not c.acts.prefill_is_dense or c.acts.name == "dense"]
    found = {str(c): c.acts for c in able}
    twice = [(name, m) for name, m in found.items() if m.question_phase]  # the question in the prefill, and after it
    return found | {f"{k}_{phase}": _asking(m, phase) for k, m in twice for phase in ("prefill", "decode")}


def _asking(method: Method, phase: str) -> Method:
    return replace(method, **{"question": phase})


def rows(kind: str, family: str, seed: int, chosen: Sequence[str] = (), n: int = 12) -> Iterator[tuple[Any, dict]]:
    """For each of `WAYS`: (budget, share) and method -> sample rows in the order of the examples."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        acting = {k: m for k, m in methods(kind, family).items() if not chosen or k in chosen}
        plan = _plan(kind, _model(kind, family, seed, root / f"tiny-{family}"), acting, seed, n)
        for budget, share in WAYS:
            shutil.rmtree(root / "runs", ignore_errors=True)
            outcomes = execute(plan, RunSettings(root, efficiency="off", batch_tokens=budget, share=share))
            ended = [f"{o.cell.label}: {o.status}: {o.reason}" for o in outcomes if o.status not in ("done", "refused")]
            assert not ended, "\n".join(ended)  # refused: calibration needs a model that knows something
            done = [o.cell for o in outcomes if o.status == "done"]
            assert len(done) > 1, "no method ran but dense"
            files = {c.method_label: root / "runs" / c.run_id / "samples.jsonl" for c in done}
            yield (
                (budget, share),
                {label: samples_of(file) for label, file in files.items()},
            )  # fmt: skip


def _model(kind: str, family: str, seed: int, folder: Path) -> Path:
    """A checkpoint whose answers end now and then."""
    wide = {"sliding_window": 32} if "sliding_window" in small.CONFIGS.get(family, ()) else {}  # as in the matrix
    saved = tiny_vlm.save(family, folder, seed) if kind == "pictures" else small.save(folder, family, seed, **wide)
    file = saved / "generation_config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    first = config.get("eos_token_id", 1)
    stop = [first if isinstance(first, int) else first[0], *example_rng("stops", seed).sample(range(20, 250), STOPS)]
    file.write_text(json.dumps(config | {"eos_token_id": stop}))
    return saved


def _plan(kind: str, folder: Path, acting: dict[str, Method], seed: int, n: int) -> list[Any]:
    cfg = compose([f"model={folder}"])
    OmegaConf.set_struct(cfg, False)
    if folder.name.endswith("gpt_oss"):  # its sink logits: the library has them in eager attention only
        cfg.model[folder.name].backend = "eager"
    nodes = {label: _node(method) for label, method in acting.items() if label != "dense"}
    cfg.method = {"dense": {"_target_": "methods.dense.Dense"}, **nodes}
    task = TASKS[kind]
    cfg.task = {kind: {"_target_": f"{task.__module__}.{task.__name__}", "seed": seed, "n": n}}
    return cells(cfg)


def _node(method: Method) -> dict[str, Any]:
    values = {f.name: getattr(method, f.name) for f in fields(method)}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {"_target_": f"{type(method).__module__}.{type(method).__name__}", **values}


def samples_of(file: Path) -> list[dict[str, Any]]:
    """The rows by id. Only a line feed ends one: answers of random models hold every other separator."""
    return sorted(map(json.loads, file.read_text().rstrip("\n").split("\n")), key=lambda row: row["id"])


def differences(kind: str, family: str, seed: int, chosen: Sequence[str] = (), n: int = 12) -> list[str]:
    """Everything that is not as it is for each sample alone, with the command that shows it again."""
    found: list[str] = []
    alone: dict[str, Any] = {}
    for way, by_method in rows(kind, family, seed, chosen, n):
        alone = alone or by_method
        for label, samples in by_method.items():
            for row, wanted in zip(samples, alone[label], strict=True):
                for key, got, want in unequal(row, wanted):
                    again = f".venv/bin/python -m tests.campaigns.invariance --kind {kind} --family {family} --method {label} --seed {seed}"
                    found.append(
                        f"{label} {row['id']} at (batch_tokens, share) = {way}: {key} is {got}, alone {want}; {again}"
                    )
    assert any(len({r["n_new_tokens"] for r in samples}) > 2 for samples in alone.values()) or kind == "nll"
    return found


def unequal(row: dict[str, Any], wanted: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(key, here, alone) of what differs between two records of one sample."""
    for key in sorted({*row, *wanted} - {"shared", "usage", "text"}):
        if row.get(key) != wanted.get(key):
            yield key, row.get(key), wanted.get(key)
    if not _alike(row["text"], wanted["text"]):
        yield "text", row["text"], wanted["text"]
    for key in sorted({*row["usage"], *wanted["usage"]}):
        got, want = row["usage"].get(key), wanted["usage"].get(key)
        own = key.startswith("method_") and None not in (got, want)
        if abs(got - want) > CLOSE * max(1, abs(want)) if own else got != want:
            yield key, got, want


def _alike(text: str, wanted: str) -> bool:
    """Equal, but for the numbers in a list of likelihoods."""
    if text == wanted:
        return True
    try:
        pairs = list(zip(_flat(json.loads(text)), _flat(json.loads(wanted)), strict=True))
    except ValueError:
        return False
    return all(abs(a - b) <= CLOSE * max(1, abs(b)) if isinstance(a, float) else a == b for a, b in pairs)


def _flat(value: Any) -> list[Any]:
    return [x for part in value for x in _flat(part)] if isinstance(value, list) else [value]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(TASKS), default="generate")
    parser.add_argument("--family", default="llama")
    parser.add_argument("--method", nargs="*", default=())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=12, help="examples")
    args = parser.parse_args()
    print("\n".join(differences(args.kind, args.family, args.seed, args.method, args.n)) or "equal in every way")
