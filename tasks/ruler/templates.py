"""The texts of RULER and the functions that fill them. Whitespace is part of the benchmark.

Source: NVIDIA/RULER `scripts/data/synthetic/constants.py` and the generators beside it. Nothing here draws a random
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
EXAMPLE_VALUE = "12345"  # what the variables of the one-shot example hold before they are randomised

NIAH = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n{context}\n"
    "What are all the special magic {kind} for {query} mentioned in the provided text?"
)
NIAH_PREFIX = " The special magic {kind} for {query} mentioned in the provided text are"
VT = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
    "Question: Find all variables that are assigned the value {query} in the text above."
)
VT_PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, "
    "{count} variables are assigned the value {query}, they are: "
)
CWE = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n{context}\n"
    "Question: What are the {count} most common words in the above list?"
)
CWE_PREFIX = " Answer: The top {count} words that appear most often in the list are:"
FWE = (
    "Read the following coded text and track the frequency of each coded word. "
    "Find the three most frequently appeared coded words. {context}\n"
    "Question: Do not provide any explanation. Please ignore the dots '....'. "
    "What are the three most frequently appeared words in the above coded text?"
)
FWE_PREFIX = " Answer: According to the coded text above, the three most frequently appeared words are:"
_QA_TASK = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
)
QA = f"{_QA_TASK}\n\nThe following are given documents.\n\n{{context}}\n\n{_QA_TASK}\n\nQuestion: {{query}}"
QA_PREFIX = " Answer:"

_SINGULAR = (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer"))


def _singular(text: str) -> str:
    for plural, single in _SINGULAR:
        text = text.replace(plural, single)
    return text


def beginnings(template: str) -> tuple[str, ...]:
    """How the question of a template begins: what stands behind its context, up to the first thing that is filled in, in
    the plural and the singular.
    """
    start = template.partition("{context}")[2].lstrip("\n").partition("{")[0]
    return tuple(dict.fromkeys((start, _singular(start))))


def question(prompt: str, template: str) -> str:
    """The end of a prompt made from `template`, from where its question begins."""
    return prompt[max(prompt.rfind(start) for start in beginnings(template)) :]


@dataclass(frozen=True)
class Built:
    """A finished prompt. `marks`: the needles, lines or documents whose depth is reported, verbatim pieces of
    `prompt`."""

    prompt: str
    prefix: str
    references: tuple[str, ...]
    marks: tuple[str, ...] = ()
    shots: int | None = None
    cluster: str = ""

    @property
    def text(self) -> str:
        """Prompt and answer prefix: what the reference counts."""
        return self.prompt + self.prefix


def needle(kind: str, key: str, value: str) -> str:
    """The sentence that hides `value` under `key`; `kind` is the plural type word (`numbers`)."""
    return NEEDLE.format(kind=kind, key=key, value=value)


def enumeration(items: Sequence[str]) -> str:
    """`a`, `a, and b`, or `a, b, and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + ", and " + items[-1]


def niah(kind: str, context: str, queries: Sequence[str], singular: bool) -> tuple[str, str]:
    """(prompt, prefix). With one answer, template and prefix, but not the needles, turn to the singular by plain
    replacement."""
    template, prefix = NIAH, NIAH_PREFIX
    if singular:
        template, prefix, kind = _singular(template), _singular(prefix), kind[:-1]
    query = enumeration(queries)
    return template.format(kind=kind, context=context, query=query), prefix.format(kind=kind, query=query)


def chain_lines(names: Sequence[str], value: str) -> list[str]:
    """`VAR A = 12345`, then `VAR B = VAR A ` (with a trailing space) for every hop."""
    hops = (f"VAR {after} = VAR {before} " for before, after in pairwise(names))
    return [f"VAR {names[0]} = {value}", *hops]


def vt(lines: Sequence[str], value: str, count: int) -> tuple[str, str]:
    """(prompt, prefix) over noise sentences and chain lines."""
    context = "\n".join(lines).replace(". \n", ".\n")
    return VT.format(context=context, query=value), VT_PREFIX.format(count=count, query=value)


def numbered(words: Sequence[str]) -> str:
    """`1. first 2. second`."""
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))


def cwe(words: Sequence[str], count: int) -> tuple[str, str]:
    """(prompt, prefix) over the numbered list."""
    return CWE.format(context=numbered(words), count=count), CWE_PREFIX.format(count=count)


def cwe_example(words: Sequence[str], common: Sequence[str], count: int) -> str:
    """The solved example that precedes the main list."""
    return "".join(cwe(words, count)) + " " + numbered(common)


def fwe(words: Sequence[str]) -> tuple[str, str]:
    """(prompt, prefix) over coded words."""
    return FWE.format(context=" ".join(words)), FWE_PREFIX


def document(number: int, text: str) -> str:
    """One numbered document."""
    return f"Document {number}:\n{text}"


def qa(documents: Sequence[str], question: str) -> tuple[str, str]:
    """(prompt, prefix) over documents in the given order."""
    context = "\n\n".join(document(i, text) for i, text in enumerate(documents, 1))
    return QA.format(context=context, query=question), QA_PREFIX
