"""What an example asks of a model, as frozen data: one class for each kind of question.

A kind says who asks it (`asker`), what a plan needs to know of it (`one_pass`, `in_words`), how it stands in a row of `heed
data`, and how its answer is put into writing and read back. Nothing else names the kinds: another one is a class with an
asker of its own, in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from harness.contracts.tokens import Prompt
from harness.disk.reading import Entry

PREFILL, PICTURE = "prefill", "picture"  # what may be shared, as records name it
Value = Any  # an answer, typed by the kind of its question: a text, a list of texts, of numbers, ...


class Unreadable(ValueError):
    """A written answer that is none to its question; the message is a flag in one word."""


@dataclass(frozen=True)
class Question:
    """Base of all kinds. Fields are what is asked; they are JSON values, with tuples for lists."""

    asker: ClassVar[str] = ""  # "package.module.Class" of the `Asker` (contracts/asker.py)
    one_pass: ClassVar[bool] = False  # the numbers come from one forward over what is given; nothing is generated
    in_words: ClassVar[bool] = (
        False  # asked and answered in words: `Method.transform` may rewrite it, references are texts
    )
    one_prompt: ClassVar[bool] = True  # at a time, as in a dialogue; where several go at once no probe can look
    grows: ClassVar[bool] = False  # later prompts hold more than the first
    # of {PREFILL, PICTURE}: several methods may go on from one dense prefill of a prompt, several prompts about one picture
    # from one prefill of it
    shares: ClassVar[frozenset[str]] = frozenset()
    in_meta: ClassVar[tuple[str, ...]] = ()  # fields that stand in the `meta` of a row

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names for `Task.image` of what it shows."""
        return ()

    @property
    def asked(self) -> list[Any]:
        """What is asked, and nothing else, as JSON: the digest of an example is made of it."""
        return [type(self).__name__, self.to_row()]

    def to_row(self) -> dict[str, Any]:
        """Its keys of a row of `heed data`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        """Inverse of `to_row`. `UserError` names a key whose value has another type."""
        meta = row.inner("meta", {})
        given = {f.name: (meta if f.name in cls.in_meta else row).values for f in fields(cls)}
        return cls(**{name: _frozen(values[name]) for name, values in given.items() if name in values})

    def write(self, value: Value) -> str:
        """An answer in writing, as records hold it: the `text` of a sample."""
        return json.dumps(value, ensure_ascii=False)

    def read(self, text: str) -> Value:
        """The answer that was written, None for a blank text; `Unreadable` for one that is no answer to this question."""
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unreadable("unparsed") from error

    def _read_list(self, text: str) -> list[Any] | None:
        """The same where it must be a list."""
        found = Question.read(self, text)
        if found is not None and not isinstance(found, list):
            raise Unreadable("unparsed")
        return found


def _frozen(value: Any) -> Any:
    """A JSON value with tuples for lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


# -- something is generated ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generate(Question):
    """A prompt to go on from. The answer is a text.

    `answer_prefix`: text with which the answer must begin; it stands behind the chat template's assistant header. `images`
    stand at the beginning of the first user message. `query`: the end of the prompt (of its last message) from where the
    question itself begins; empty: not declared.
    """

    asker: ClassVar[str] = "harness.asking.generate.GenerateAsker"
    in_words: ClassVar[bool] = True
    shares: ClassVar[frozenset[str]] = frozenset({PREFILL, PICTURE})

    prompt: Prompt = ""
    answer_prefix: str = ""
    images: tuple[str, ...] = ()
    max_new_tokens: int = 32
    query: str = ""

    @property
    def pictures(self) -> tuple[str, ...]:
        return self.images

    @property
    def asked(self) -> list[Any]:
        return [self.prompt, self.answer_prefix, self.images, (), ()]

    def to_row(self) -> dict[str, Any]:
        prompt = self.prompt if isinstance(self.prompt, str) else [dict(m) for m in self.prompt]
        return {
            "prompt": prompt, "answer_prefix": self.answer_prefix, "question": self.query, "images": list(self.images),
            "max_new_tokens": self.max_new_tokens,
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        return cls(
            prompt=_prompt_of(row),
            answer_prefix=row.text("answer_prefix", "", blank=True),
            images=row.texts("images", ()),
            max_new_tokens=row.whole("max_new_tokens", 32),
            query=row.text("question", "", blank=True),
        )

    def write(self, value: Value) -> str:
        return str(value)

    def read(self, text: str) -> Value:
        return text


def _prompt_of(row: Entry) -> Prompt:
    """A text, or chat messages, each with a role and a content."""
    if not isinstance(row.values.get("prompt"), list):
        return row.text("prompt", "", blank=True)
    for message in (messages := row.entries("prompt")):
        message.text("role"), message.text("content", blank=True)
    return tuple(dict(message.values) for message in messages)


@dataclass(frozen=True)
class Dialogue(Generate):
    """A conversation: `turns` are the user's further messages, each after the model's own answer to the one before. The
    answer is a list of texts, one for each message of the user that is answered.
    """

    asker: ClassVar[str] = "harness.asking.dialogue.DialogueAsker"
    grows: ClassVar[bool] = True
    shares: ClassVar[frozenset[str]] = frozenset()

    turns: tuple[str, ...] = ()

    @property
    def asked(self) -> list[Any]:
        return [self.prompt, self.answer_prefix, self.images, self.turns, ()]

    def to_row(self) -> dict[str, Any]:
        return super().to_row() | {"turns": list(self.turns)}

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        first = Generate.from_row(row)
        return cls(**vars(first), turns=row.texts("turns", (), blank=True))

    def write(self, value: Value) -> str:
        return json.dumps(value, ensure_ascii=False)

    def read(self, text: str) -> Value:
        """What is missing from the list, or no text, is an empty answer."""
        if (found := self._read_list(text)) is None:
            return None
        texts = [answer if isinstance(answer, str) else "" for answer in found]
        return (texts + [""] * (1 + len(self.turns)))[: 1 + len(self.turns)]


# -- one pass over what is given -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Likelihood(Question):
    """How surprising the last `n_scored` of `ids` `[T]` are. The answer is a list of their negative log-likelihoods (nats),
    each given everything before it.
    """

    asker: ClassVar[str] = "harness.asking.likelihood.LikelihoodAsker"
    one_pass: ClassVar[bool] = True

    ids: tuple[int, ...] = ()
    n_scored: int = 0

    @property
    def asked(self) -> list[Any]:
        return ["", "", (), (), self.ids]

    def to_row(self) -> dict[str, Any]:
        return {"input_ids": list(self.ids), "n_scored": self.n_scored}

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        return cls(row.wholes("input_ids", ()), row.whole("n_scored", 0))

    def read(self, text: str) -> Value:
        if (found := self._read_list(text)) is None:
            return None
        if any(isinstance(x, bool) or not isinstance(x, int | float) for x in found):
            raise Unreadable("unparsed")
        if len(found) != self.n_scored:
            raise Unreadable("wrong_length")
        try:
            return [float(x) for x in found]
        except OverflowError as error:
            raise Unreadable("unparsed") from error


@dataclass(frozen=True)
class Predict(Question):
    """One forward over named `inputs` (nested numbers without the batch axis: `input_ids` `[T]`), of which one `output` is
    the answer: empty for the logits, else its name (`hidden_states.3` is the fourth of several).

    `positions`: the places of the output's first axis that are answered, ascending; None: all. `take`: the `values` there, as
    nested lists of numbers rounded to `decimals`, or the `argmax` of the last axis, as whole numbers.
    """

    asker: ClassVar[str] = "harness.asking.predict.PredictAsker"
    one_pass: ClassVar[bool] = True

    inputs: Mapping[str, Any]
    output: str = ""
    positions: tuple[int, ...] | None = None
    take: Literal["values", "argmax"] = "values"
    decimals: int = 6

    @classmethod
    def from_row(cls, row: Entry) -> Self:
        take = row.text("take", "values")
        if take not in ("values", "argmax"):
            raise row.error(f"'take' is {take!r}: it is 'values' or 'argmax'")
        given = row.inner("inputs").values
        return cls(
            inputs={name: _frozen(value) for name, value in given.items()},
            output=row.text("output", "", blank=True),
            positions=None if row.values.get("positions") is None else row.wholes("positions"),
            take="argmax" if take == "argmax" else "values",
            decimals=row.whole("decimals", 6),
        )

    def read(self, text: str) -> Value:
        if (found := self._read_list(text)) is None:
            return None
        if not _numbers(found):
            raise Unreadable("unparsed")
        if self.positions is not None and len(found) != len(self.positions):
            raise Unreadable("wrong_length")
        return found


def _numbers(value: Any) -> bool:
    """Whether a value is a number, or nested lists of them."""
    if isinstance(value, list):
        return all(map(_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- several things at once: the requests of lm-evaluation-harness ----------------------------------------------------


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
    one_prompt: ClassVar[bool] = False
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
        if (found := self._read_list(text)) is None:
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
