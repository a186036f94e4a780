"""Several things asked about one document at once, as lm-evaluation-harness asks them. `request_tokens.py` makes token ids of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from harness.contracts.question import Question, Unreadable, Value
from harness.disk.reading import Entry


@dataclass(frozen=True)
class LogLikelihood:
    """Of a continuation, given the context with this number. Response: (nats, whether greedy decoding would write it)."""

    type: ClassVar[str] = "loglikelihood"

    context: int
    continuation: str

    def to_row(self) -> dict[str, Any]:
        return {"type": self.type, "context": self.context, "continuation": self.continuation}


@dataclass(frozen=True)
class RollingLogLikelihood:
    """Of a whole text, in windows of at most `max_length` tokens (0: as many as the model reads). Response: nats."""

    type: ClassVar[str] = "loglikelihood_rolling"

    text: str
    max_length: int = 0

    def to_row(self) -> dict[str, Any]:
        return {"type": self.type, "text": self.text} | ({"max_length": self.max_length} if self.max_length else {})


@dataclass(frozen=True)
class GenerateUntil:
    """A continuation of a context up to the first of the stop strings. `given`: the library's own arguments, where these
    say less. Response: the text.
    """

    type: ClassVar[str] = "generate_until"

    context: int
    until: tuple[str, ...]
    max_new_tokens: int
    given: Mapping[str, Any] | None = None

    def to_row(self) -> dict[str, Any]:
        row = {"type": self.type, "context": self.context, "until": list(self.until)}
        return row | {"max_new_tokens": self.max_new_tokens} | ({} if self.given is None else {"given": self.given})


OneRequest = LogLikelihood | RollingLogLikelihood | GenerateUntil


@dataclass(frozen=True)
class Requests(Question):
    """Several requests of lm-evaluation-harness about one document. `contexts`: texts, so that one that many requests share
    is stored once. The answer is a list with one response to each.
    """

    asker: ClassVar[str] = "harness.asking.requests.RequestsAsker"
    grows: ClassVar[bool] = False  # later prompts hold more than the first
    # of {PREFILL, PICTURE}: several methods may go on from one dense prefill of a prompt, several prompts about one picture
    # from one prefill of it
    shares: ClassVar[frozenset[str]] = frozenset()
    in_meta: ClassVar[tuple[str, ...]] = ("requests", "contexts")

    requests: tuple[OneRequest, ...] = ()
    contexts: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The text with which it begins."""
        rolling = (one.text for one in self.requests if isinstance(one, RollingLogLikelihood))
        return self.contexts[0] if self.contexts else next(rolling, "")

    @property
    def asked(self) -> list[Any]:
        return [self.first, "", (), (), (), self.contexts, [one.to_row() for one in self.requests]]

    def to_row(self) -> dict[str, Any]:
        new = max((one.max_new_tokens for one in self.requests if isinstance(one, GenerateUntil)), default=0)
        rows = [one.to_row() for one in self.requests]
        return {"prompt": self.first, "max_new_tokens": new, "requests": rows, "contexts": list(self.contexts)}

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        meta = row.inner("meta", {})
        contexts = meta.texts("contexts", (), blank=True)
        return cls(tuple(_request(one, len(contexts)) for one in meta.entries("requests")), contexts)

    def read(self, text: str) -> Value:
        if (found := self.read_list(text)) is None:
            return None
        if len(found) != len(self.requests):
            raise Unreadable("wrong_length")
        try:
            return [_response(one, value) for one, value in zip(self.requests, found, strict=True)]
        except (TypeError, ValueError, OverflowError) as error:
            raise Unreadable("unparsed") from error


def _request(row: Entry, n_contexts: int) -> OneRequest:
    """One request as it stands in a row."""
    kind = row.text("type")
    if kind == RollingLogLikelihood.type:
        return RollingLogLikelihood(row.text("text", blank=True), row.whole("max_length", 0))
    if kind not in (LogLikelihood.type, GenerateUntil.type):
        raise row.error(f"'type' is {kind!r}, which is no request")
    if not 0 <= (context := row.whole("context")) < n_contexts:
        raise row.error(f"'context' is {context}, and there are {n_contexts} contexts")
    if kind == LogLikelihood.type:
        return LogLikelihood(context, row.text("continuation", blank=True))
    given = row.inner("given").values if "given" in row else None
    return GenerateUntil(context, row.texts("until", (), blank=True), row.whole("max_new_tokens"), given)


def _response(one: OneRequest, value: Any) -> Any:
    """The response to one request; `TypeError` or `ValueError` for a value of another form."""
    if isinstance(one, GenerateUntil):
        if not isinstance(value, str):
            raise TypeError("a generation is a text")
        return value
    if isinstance(one, RollingLogLikelihood):
        return float(value)
    nats, greedy = value
    return [float(nats), bool(greedy)]
