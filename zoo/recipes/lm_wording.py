"""The wording of the training examples, which is that of the benchmarks themselves: passkey after landmark attention (arXiv
2305.16300), needles and variable tracking after RULER (arXiv 2404.06654). Dialogues are our own.
"""

from __future__ import annotations

from collections.abc import Sequence

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
PASSKEY_HEAD = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
PASSKEY_NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key."
PASSKEY_QUESTION = "What is the pass key?"
PASSKEY_PREFIX = " The pass key is"
NIAH_HEAD = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards."
)
NIAH_NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NIAH_QUESTION = "What are all the special magic {kind} for {query} mentioned in the provided text?"
NIAH_PREFIX = " The special magic {kind} for {query} mentioned in the provided text are"
NIAH_CUE = ("mentioned", "in", "the", "provided", "text")
VT_HEAD = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n"
VT_QUESTION = "Question: Find all variables that are assigned the value {value} in the text above."
VT_PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, "
    "{count} variables are assigned the value {value}, they are: "
)
FACT = "User: My favorite {noun} is {answer}.\nAssistant: OK. Thank you, I will remember that."
FACT_QUESTION = "User: What is my favorite {noun}?\nAssistant:"
FACT_PREFIX = " Your favorite {noun} is"


def singular(text: str) -> str:
    """RULER's replacements for exactly one value and one query, in its order; on the template, never on a key."""
    for old, new in (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")):
        text = text.replace(old, new)
    return text


def listed(values: Sequence[str]) -> str:
    """``a``, ``a, and b``, ``a, b, c, and d``."""
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + f", and {values[-1]}"
