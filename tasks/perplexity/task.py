"""Sliding-window perplexity over documents, by token, by word and by position in the window."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.example import Example, Skipped
from harness.contracts.metric import Metric, Score
from harness.contracts.options import Length
from harness.contracts.question import Likelihood, Question
from harness.contracts.task import Task
from harness.contracts.tokens import Tokens
from harness.disk.reading import Entry
from harness.errors import UserError
from tasks.perplexity import documents
from tasks.perplexity.documents import Document
from tasks.perplexity.windows import Window, bucket_edges, windows
from zoo.material.text import words
from zoo.material.text.fit import largest_fit

# Records hold finite numbers only. This many nats stand for a token of probability 0: the perplexity of any text that
# has one is then infinite, because exp overflows long before.
INFINITE = 1e30


@dataclass(frozen=True, kw_only=True)
class Perplexity(Task):
    """ppl = exp(sum of nll / predicted tokens) over the first `max_tokens` of each document, each predicted once.

    `window` and `stride` count tokens; `buckets` is a number of equal position buckets or a list of edges. The output
    of an example is a JSON list with the nll (nats) of its predicted tokens, in order.
    """

    title: ClassVar[str] = "sliding-window perplexity of long documents, by position"
    paper: ClassVar[str] = "1911.05507"
    licence: ClassVar[str] = "the user's documents; built-in essays ship with the harness"
    unreadable: ClassVar[tuple[str, ...]] = ("unparsed", "empty")
    asks: ClassVar[type[Question]] = Likelihood
    folders: ClassVar[tuple[str, ...]] = ("path",)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ppl", "ratio", "nll_sum", "tokens", "exp", higher_is_better=False, percent=False),
        Metric("word_ppl", "ratio", "nll_sum", "words", "exp", higher_is_better=False, percent=False),
    )

    path: str | None = None
    text_field: str = "text"
    window: Length = 2048
    stride: Length = 1024
    max_tokens: Length | None = None
    buckets: int | Sequence[int] = 8

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", str(Path(self.path)))
        if not isinstance(self.buckets, int):
            object.__setattr__(self, "buckets", tuple(self.buckets))

    @property
    def scorer(self) -> str:
        """Stored with every result: the definition fixes window and stride."""
        return f"perplexity/window{self.window}-stride{self.stride}"

    @property
    def edges(self) -> tuple[int, ...]:
        """Position buckets `[edges[i], edges[i + 1])`; a position is the number of ids before the predicted one."""
        return bucket_edges(self.buckets if isinstance(self.buckets, int) else tuple(self.buckets), self.window)

    def validate(self) -> None:
        edges = (self.buckets,) if isinstance(self.buckets, int) else self.buckets
        if wrong := [n for n in (self.window, self.stride, self.max_tokens or 2, *edges) if not isinstance(n, int)]:
            raise UserError(
                f"perplexity counts window, stride, max_tokens and buckets in whole tokens, not {wrong[0]!r}."
            )
        if self.window < 4:
            raise UserError(f"perplexity.window is {self.window}: a window has at least 4 tokens.")
        if not 1 <= self.stride <= self.window:
            raise UserError(
                f"perplexity.stride is {self.stride} with perplexity.window {self.window}: a stride is at least 1 and "
                "at most the window, or tokens would be left out."
            )
        if self.max_tokens is not None and self.max_tokens < 2:
            raise UserError(
                f"perplexity.max_tokens is {self.max_tokens}: give at least 2, or null for whole documents."
            )
        self._validate_buckets()
        documents.load(self.path, self.text_field)

    def data_files(self) -> tuple[Path, ...]:
        return documents.files(Path(self.path)) if self.path is not None else ()

    def provenance(self) -> Mapping[str, str]:
        return {} if self.path is not None else {"essay": words.digest(words.essay())}

    def lengths_needed(self) -> int:
        return self.window

    def examples(self, tokens: Tokens) -> Iterator[Example | Skipped]:
        """One example per window. Of a single document, the windows are the units of independence (see README)."""
        found = documents.load(self.path, self.text_field)
        for document in found:
            yield from self._document(document, tokens, tuple(tokens.start_ids), alone=len(found) == 1)

    def read_row(self, row: Mapping[str, Any], index: int) -> Example:
        """A window in our own layout; the words in it are a number."""
        example = Example.from_row(row, Likelihood)
        Entry(example.meta, "meta").number("words", 0.0)
        return example

    def score(self, example: Example, answer: list[float] | None) -> Score:
        """Sums of this window; without its nlls it adds nothing and is flagged `empty`. Other flags: `infinite`, `nan`."""
        if answer is None:
            return Score({"nll_sum": 0.0, "tokens": 0.0, "words": 0.0}, None, ("empty",))
        asked, (losses, flags) = example.asks(Likelihood), _finite(answer)
        counted = float(example.meta.get("words") or 0.0)
        sums = {"nll_sum": math.fsum(losses), "tokens": float(len(losses)), "words": counted}
        return Score(sums | self._bucket_sums(losses, len(asked.ids) - len(losses)), len(losses), flags)

    def figures(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
        from tasks.perplexity.curve import write

        return write(rows, folder, INFINITE)

    def _validate_buckets(self) -> None:
        if isinstance(self.buckets, int):
            if not 1 <= self.buckets <= self.window:
                raise UserError(
                    f"perplexity.buckets is {self.buckets}: give 1 to {self.window} buckets, or their edges."
                )
        elif list(self.buckets) != sorted(set(self.buckets)) or not all(0 <= b <= self.window for b in self.buckets):
            edges = list(self.buckets)
            raise UserError(
                f"perplexity.buckets is {edges}: edges rise and lie between 0 and the window {self.window}."
            )

    def _document(
        self, document: Document, tokens: Tokens, bos: tuple[int, ...], alone: bool
    ) -> Iterator[Example | Skipped]:
        ids = tokens.encode(document.text)
        used = ids[: self.max_tokens]
        if len(used) < 2:
            yield Skipped(
                document.name, f"{len(used)} tokens: there is nothing to predict", {"document": document.name}
            )
            return
        per_token = _words(document.text, tokens, len(ids), self.max_tokens) / (len(used) - 1)
        for number, window in enumerate(windows(len(used), self.window, self.stride, len(bos))):
            name = f"{document.name}@{number}"
            yield Example(
                id=name,
                question=Likelihood((*bos, *used[window.begin : window.end]), window.n_scored),
                cluster=name if alone else document.name,
                task="perplexity",
                meta=self._meta(document, number, window, len(bos)) | {"words": per_token * window.n_scored},
            )

    @staticmethod
    def _meta(document: Document, number: int, window: Window, n_bos: int) -> dict[str, Any]:
        """`start`: position in the document of the first predicted token."""
        return {
            "document": document.name, "source": document.source, "window": number, "start": window.first,
            "n_bos": n_bos, "n_tokens": n_bos + window.end - window.begin,
        }  # fmt: skip

    def _bucket_sums(self, losses: Sequence[float], first: int) -> dict[str, float]:
        """`nll_sum@64-128` and `tokens@64-128` for each position bucket that this window reaches."""
        edges = self.edges
        sums: dict[str, float] = {}
        for position, loss in enumerate(losses, start=max(0, first)):
            at = min(bisect_right(edges, position), len(edges) - 1)
            name = f"{edges[at - 1]}-{edges[at]}"
            sums[f"nll_sum@{name}"] = sums.get(f"nll_sum@{name}", 0.0) + loss
            sums[f"tokens@{name}"] = sums.get(f"tokens@{name}", 0.0) + 1
        return sums


def _finite(losses: Sequence[float]) -> tuple[list[float], tuple[str, ...]]:
    """The nlls within +-`INFINITE`, and the flags `infinite` and `nan`."""
    flags = ("nan",) if any(map(math.isnan, losses)) else ()
    if any(not x < INFINITE for x in losses):  # a nan compares false and counts as infinite
        flags = ("infinite", *flags)
    return [min(max(x, -INFINITE), INFINITE) if x == x else INFINITE for x in losses], flags


def _words(text: str, tokens: Tokens, n_tokens: int, limit: int | None) -> int:
    """White-space words of the text, or of as much of it as its first `limit` tokens cover whole."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    if limit is None or n_tokens <= limit:
        return len(ends)
    cost = lambda count: tokens.count(text[: ends[count - 1]]) if count else 0  # noqa: E731
    return largest_fit(cost, limit, guess=len(ends) * limit // n_tokens, most=len(ends)) or 0
