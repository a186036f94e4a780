"""What a question of the kind `Requests` asks, as token ids. Imports no torch.

Token ids are those of lm-evaluation-harness 0.4 (`lm_eval/models/huggingface.py`, `lm_eval/api/model.py`), so that
likelihoods can be compared with published ones: a text gets the tokenizer's own special tokens unless it begins with the
prefix token as text; spaces at the end of a context belong to the continuation; a pair is tokenised as one text and cut
where the context alone ends; an empty context is the prefix token (the bos, else the eos); a rolling text is cut into
windows in which each token is predicted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts.question import LogLikelihood, OneRequest, Requests, RollingLogLikelihood
from harness.errors import UserError


class Misfit(ValueError):
    """A request that cannot be asked as it stands, with the reason; nothing is cut to make it fit."""


@dataclass(frozen=True)
class TokenRequest:
    """One thing to compute for request number `request`: the log-likelihood of the last `n_scored` ids given those
    before them, or (`max_new_tokens` > 0) a continuation of all ids until one of `until` appears.
    """

    request: int
    ids: tuple[int, ...]
    n_scored: int = 0
    until: tuple[str, ...] = ()
    max_new_tokens: int = 0

    @property
    def read(self) -> tuple[int, ...]:
        """The ids that the model reads: the last scored one is only predicted."""
        return self.ids if self.max_new_tokens else self.ids[:-1]

    @property
    def positions(self) -> int:
        """Positions that the model needs for it."""
        return len(self.read) + self.max_new_tokens


def asked(tokens: Any, question: Requests, limit: int | None = None) -> list[TokenRequest]:
    """Everything that the requests of one question ask, in order; a rolling text may give several parts, or none.

    `tokens`: a view, or a tokenizer alone, with `tokenizer`. `limit`: positions of the model (None: no limit). Raises
    `Misfit` for a question that does not fit.
    """
    found: list[TokenRequest] = []
    for number, request in enumerate(question.requests):
        found += _asked(tokens.tokenizer, number, request, question.contexts, limit)
    for one in found:
        if limit and one.positions > limit:
            new = f" and asks for {one.max_new_tokens} new ones" if one.max_new_tokens else ""
            raise Misfit(f"request {one.request} has {len(one.read)} tokens{new}, but there are {limit} positions")
    return found


def _asked(
    tokenizer: Any, number: int, request: OneRequest, contexts: Sequence[str], limit: int | None
) -> Iterator[TokenRequest]:
    if isinstance(request, LogLikelihood):
        context, continuation = pair(tokenizer, contexts[request.context], request.continuation)
        if not context or not continuation:
            part = "continuation" if context else "context"
            raise Misfit(f"the {part} of request {number} has no token of its own")
        yield TokenRequest(number, (*context, *continuation), len(continuation))
    elif isinstance(request, RollingLogLikelihood):
        sizes = [n for n in (request.max_length, limit) if n]
        ids = encode(tokenizer, request.text)
        for window, n in windows(ids, prefix_id(tokenizer), min(sizes, default=max(1, len(ids)))):
            yield TokenRequest(number, tuple(window), n)
    else:
        ids = encode(tokenizer, contexts[request.context])
        if not ids:
            raise Misfit(f"the prompt of request {number} is empty")
        yield TokenRequest(number, tuple(ids), 0, request.until, request.max_new_tokens)


def prefix_id(tokenizer: Any) -> int:
    """The token that stands before a text without a context: the bos, else the eos."""
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise UserError("The tokenizer has neither a bos nor an eos token, so there is nothing to begin a text with.")
    return int(found)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text with the tokenizer's own special tokens, unless the text brings its beginning along."""
    begins = text.startswith(tokenizer.decode([prefix_id(tokenizer)]))
    return list(tokenizer.encode(text, **({"add_special_tokens": False} if begins else {})))


def pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context and of what follows it."""
    if context == "":
        ids, first = list(tokenizer.encode(continuation, add_special_tokens=False)), prefix_id(tokenizer)
        return (ids[:1], ids[1:]) if ids[:1] == [first] else ([first], ids)
    bare = context.rstrip()
    whole = encode(tokenizer, context + continuation)
    start = encode(tokenizer, bare)
    return start, whole[len(start) :]


def windows(ids: Sequence[int], first: int, size: int) -> Iterator[tuple[list[int], int]]:
    """Windows over `ids` in which at most `size` tokens are read: the ids of each, and how many of its last ones are
    predicted. `first` stands before the text; later windows are filled up with what came before.
    """
    done = 0
    while done < len(ids):
        n = min(size, len(ids) - done)
        end = done + n
        yield ([first, *ids[:end]] if done == 0 else list(ids[max(0, end - size - 1) : end])), n
        done = end
