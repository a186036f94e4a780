"""The engine's golden numbers: one small cell for every kind of question and every way of computing attention.

    python -m tests.golden            # add what the file lacks; all numbers anew if VERSION was raised since
    python -m tests.golden --force    # all numbers anew under the same VERSION: only before a VERSION was released

`golden.json` holds what the engine gave when it was written, under the `VERSION` of `harness/identity/run_id.py` that it had.
The run id holds that VERSION, so numbers that move while it stays would be stored under the ids of the old ones:
`tests/test_golden.py` fails then. Tasks and methods are small ones of this file, so that only the engine and the zoo's models
decide the numbers.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from harness.contracts.call import Blocks, Call
from harness.contracts.example import Example
from harness.contracts.method import Method
from harness.contracts.metric import Metric, Score
from harness.contracts.question import (
    Dialogue,
    Generate,
    GenerateUntil,
    Likelihood,
    LogLikelihood,
    Predict,
    Question,
    Requests,
    RollingLogLikelihood,
)
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.identity.run_id import VERSION, libraries

FILE = Path(__file__).with_name("golden.json")
CLOSE = (
    1e-4  # nats, log probabilities: several times what processors differ by, far less than a score that is off by 1 %
)
TEXT = (
    "The old mill stands by the river. The pass key is 48213. In autumn the children bring corn to the mill, and the miller "
    "grinds it until the evening. Nobody knows how old the bridge is. The rain comes from the west. "
)


# -- questions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Asked(Task):
    title: ClassVar[str] = "golden"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("length", percent=False),)

    def score(self, example: Example, answer: Any) -> Score:
        return Score({"length": float(len(answer or ""))})


class Written(_Asked):
    """Prompts of different lengths in one batch."""

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for i in (1, 2, 3):
            asked = Generate(TEXT * i + "What is the pass key? The pass key is", max_new_tokens=6)
            yield Example(f"e{i}", asked)


class Talked(_Asked):
    """A conversation."""

    asks: ClassVar[type[Question]] = Dialogue

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        turns = ("What is the pass key?", "Where does the rain come from?")
        yield Example("e1", Dialogue(TEXT, max_new_tokens=4, turns=turns))


class Predicted(_Asked):
    """The likelihood of the last tokens of a text."""

    asks: ClassVar[type[Question]] = Likelihood

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for i in (2, 3):
            ids = tuple(tokens.encode(TEXT * i))
            yield Example(f"e{i}", Likelihood(ids, n_scored=24))


class Forwarded(_Asked):
    """Hidden states of one forward, a few of its positions."""

    asks: ClassVar[type[Question]] = Predict

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        given = {"input_ids": tuple(tokens.encode(TEXT))}
        yield Example("e1", Predict(given, positions=(7, 40), take="argmax"))
        yield Example("e2", Predict(given, output="hidden_states.2", positions=(40,), decimals=4))


class Requested(_Asked):
    """What lm-evaluation-harness asks: likelihoods of continuations and of a text, and a text up to a stop string."""

    asks: ClassVar[type[Question]] = Requests

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        pairs = [LogLikelihood(0, one) for one in (" 48213", " 99999")]
        asked = (*pairs, GenerateUntil(0, (".",), 6), RollingLogLikelihood(TEXT))
        yield Example("e1", Requests(asked, (TEXT + "The pass key is",)))


class Pictured(_Asked):
    """A picture of coloured fields."""

    needs_images: ClassVar[bool] = True

    def examples(self, tokens: Tokens) -> Iterator[Example]:
        for i in (1, 2):
            yield Example(f"e{i}", Generate("Describe the image.", max_new_tokens=8, images=(str(i),)))

    def image(self, name: str) -> Image.Image:
        made = Image.new("RGB", (96, 64), (40, 90, 60 * int(name)))
        made.paste((220, 200, 90), (16 * int(name), 8, 60, 40))
        return made


def answered(task: str, model: str = "micro-lm") -> list[Any]:
    """What the samples of a cell say, on the whole road from the configuration to the records."""
    from harness.config.compose import compose
    from harness.plan.cells import cells
    from harness.records.cells import read_cells
    from harness.running.run import RunSettings, execute

    target = f"+task.golden={{_target_: tests.golden.{task}}}"
    plan = cells(compose([f"model={model}", "method=[]", "task=[]", target]))
    with tempfile.TemporaryDirectory() as root:
        (outcome,) = execute(plan, RunSettings(Path(root), efficiency="off"))
        assert outcome.status == "done", outcome.reason
        (cell,) = read_cells(Path(root))
        return [_parsed(row["text"]) for row in sorted(cell.samples(), key=lambda row: row["id"])]


def _parsed(text: str) -> Any:
    """A list of numbers, where the answer is one."""
    return json.loads(text) if text.startswith("[") else text


# -- ways of computing attention -------------------------------------------------------------------------------------


class Pattern(Method):
    """Every third block, and the own one."""

    name = "golden_pattern"

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks | None:
        return Blocks(16, _third)


def _third(h: Any, a: Any, c: Any) -> Any:
    return (a - c) % 3 == 0


class Selected(Method):
    """In decode the keys of even positions."""

    name, phases, prefill_is_dense = "golden_select", frozenset({"decode"}), True

    def select(self, ctx: Call, q: Tensor, k: Tensor) -> Tensor | None:
        return torch.arange(k.shape[2] % 2, k.shape[2], 2).expand(*k.shape[:2], -1)


class Masked(Method):
    """No query sees the keys 8 to 23 before it."""

    name = "golden_mask"

    def mask(self, ctx: Call, shown: Tensor) -> Tensor | None:
        n_q, n_k = shown.shape[-2:]
        behind = torch.arange(n_k - n_q, n_k)[:, None] - torch.arange(n_k)
        return shown & ~((behind >= 8) & (behind < 24))


class Compressed(Method):
    """Four first and forty last keys stay in the cache."""

    name, prefill_is_dense = "golden_cache", True

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        n = layer_cache.keys.shape[2]
        if n <= 44:
            return None
        return torch.cat((torch.arange(4), torch.arange(n - 40, n))).expand(*layer_cache.keys.shape[:2], -1)


class Scored(Method):
    """The scores of the last row fall with the distance."""

    name = "golden_rows"

    def scores(self, ctx: Call, s: Tensor) -> Tensor | None:
        return s - 0.02 * torch.arange(s.shape[-1] - 1, -1, -1)


class Weighed(Method):
    """The first key's weight goes to the others."""

    name = "golden_weights"

    def probs(self, ctx: Call, a: Tensor) -> Tensor | None:
        a = a.clone()
        a[..., 0] = 0
        return a / a.sum(-1, keepdim=True)


class Hooked(Method):
    """Every hook of a module, a little."""

    name = "golden_modules"

    def layer_in(self, ctx: Call, x: Tensor) -> Tensor | None:
        return 1.01 * x

    def heads(self, ctx: Call, z: Tensor) -> Tensor | None:
        return 0.9 * z

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor | None:
        return 1.1 * a

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        return 0.95 * m

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        return 0.99 * x

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        return 1.05 * z


@cache
def _model() -> Any:
    from harness.models.load import ModelSpec

    return ModelSpec(path="micro-lm", device="cpu").load()


@torch.no_grad()
def losses(method: type[Method], lowering: str = "auto", text: str = TEXT, steps: int = 12) -> list[float]:
    """Nats of the last `steps` tokens of a text, each read in a decode step of its own behind a prefill of the others."""
    from harness.attention.attach import attach
    from harness.models.inputs import of_ids

    view = _model()
    ids = torch.tensor([view.encode(text)], device=view.device)
    found = []
    with attach(view, method(), lowering) as attached:
        inputs = attached.begin(of_ids(ids[:, :-steps]))
        own = attached.new_cache()
        cache = DynamicCache(config=view.config) if own is None else own
        given = inputs.prefill()
        for i in range(steps):
            out = view.lm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = ids[:, ids.shape[1] - steps + i]
            found.append(round(float(-out.logits[0, -1].float().log_softmax(-1)[token]), 6))
            given = {"input_ids": token[None]} | inputs.further(1, i)
    return found


# -- all of them -----------------------------------------------------------------------------------------------------

CELLS: dict[str, Callable[[], list[Any]]] = {
    "question generate": partial(answered, "Written"),
    "question dialogue": partial(answered, "Talked"),
    "question nll": partial(answered, "Predicted"),
    "question predict": partial(answered, "Forwarded"),
    "question requests": partial(answered, "Requested"),
    "question picture": partial(answered, "Pictured", "micro-vlm"),
    "attention unchanged": partial(losses, Method),
    "attention dense mask": partial(losses, Pattern, "dense"),
    "attention gather": partial(losses, Pattern, "gather"),
    "attention flex": partial(losses, Pattern, "flex"),
    "attention select": partial(losses, Selected),
    "attention mask": partial(losses, Masked),
    "attention compressed cache": partial(losses, Compressed),
    "attention edited scores": partial(losses, Scored),
    "attention edited weights": partial(losses, Weighed),
    "attention module hooks": partial(losses, Hooked),
}
COMPILED = {"attention flex"}  # takes a compiler and a minute
MOVED = "the engine's numbers moved: raise VERSION in harness/identity/run_id.py and run `python -m tests.golden`"


def compare(name: str, stored: dict[str, Any], found: list[Any]) -> str:
    """What is wrong with a cell; empty if nothing is."""
    entry = stored["entries"].get(name)
    if entry is None:
        return f"golden.json has no '{name}': run `python -m tests.golden`"
    if stored["version"] != VERSION:
        return "VERSION was raised: run `python -m tests.golden`"
    where = differing(entry, found)
    if not where:
        return ""
    if stored["libraries"] != libraries():
        return f"'{name}' differs at {where}, and so do the libraries ({stored['libraries']}): they moved the numbers, or the engine did"
    return f"'{name}' differs at {where}, and {MOVED}"


def differing(a: Any, b: Any, where: str = "") -> str:
    """The first place at which two values differ, numbers by more than `CLOSE`."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next(
            (found for i, (x, y) in enumerate(zip(a, b, strict=True)) if (found := differing(x, y, f"{where}[{i}]"))),
            "",
        )
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    equal = math.isclose(a, b, rel_tol=CLOSE / 10, abs_tol=CLOSE) if numbers else a == b and type(a) is type(b)
    return "" if equal else f"{where or 'the top'} ({a!r}, now {b!r})"


def read() -> dict[str, Any]:
    """The stored numbers."""
    return (
        dict(json.loads(FILE.read_text()))
        if FILE.exists()
        else {"version": VERSION, "libraries": libraries(), "entries": {}}
    )


def write(force: bool = False, file: Path = FILE) -> list[str]:
    """Store numbers and return the names of those that were written. Under one VERSION only what is not there yet."""
    stored = read()
    anew = force or stored["version"] != VERSION
    names = [name for name in CELLS if anew or name not in stored["entries"]]
    entries = {name: CELLS[name]() if name in names else stored["entries"][name] for name in CELLS}
    content = {"version": VERSION, "libraries": libraries() if anew else stored["libraries"], "entries": entries}
    file.write_text(json.dumps(content, indent=1) + "\n")
    return names


if __name__ == "__main__":
    torch.set_num_threads(1)
    written = write(force="--force" in sys.argv[1:])
    print(
        "\n".join(written)
        or f"nothing to write: VERSION is {VERSION}, as in the file (raise it if numbers were meant to move)"
    )
