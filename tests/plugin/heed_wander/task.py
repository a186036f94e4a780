"""A word told before a walk, asked for after it (own example, generated)."""

from dataclasses import dataclass
from typing import ClassVar

from harness.contracts.example import Example
from harness.contracts.metric import Metric, Score
from harness.contracts.question import Generate
from harness.contracts.task import Task, example_rng

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord")


@dataclass(frozen=True, kw_only=True)
class Riddle(Task):
    """`samples` examples, each with `steps` sentences between the word and the question."""

    title: ClassVar[str] = "a word told before a walk"
    paper: ClassVar[str] = "own"
    licence: ClassVar[str] = "generated"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)
    chance: ClassVar[dict[str, float]] = {"accuracy": 1 / len(WORDS)}

    samples: int = 4
    steps: int = 12

    def examples(self, tokens):
        for n in range(self.samples):
            word = example_rng("riddle", self.seed, n).choice(WORDS)
            walk = " ".join(f"Step {i}: the road goes on." for i in range(self.steps))
            prompt = f"The word is {word}. {walk} What is the word? The word is"
            yield Example(f"riddle-{n}", Generate(prompt, max_new_tokens=4), references=(word,))

    def score(self, example, answer):
        return Score({"accuracy": float(example.references[0] in (answer or "").lower())}, parsed=answer)

    def size(self):
        return self.samples, self.samples * (8 * self.steps + 24)
