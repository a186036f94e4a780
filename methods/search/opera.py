"""OPERA (Huang et al. 2024, arXiv 2311.17911): beam search that penalises over-trust in a summary token, and goes back.

Of every new token the last layer's attention row is kept, the maximum over heads, normalised to sum 1. Each step, for
each beam, with R the length of the answer, the candidate included:

1. the `candidates` best tokens by logit are tried: one forward gives the row each of them would have;
2. column score of token j of the answer: c_j = 1e-7 prod_{i >= j} scale * row_i[j], rounded to float16;
3. the candidate's logit loses weight * max_j c_j, or, while R <= 10, gains weight * (its attention to the image);
   all other tokens are set to -999; log_softmax and beam scores follow;
4. retrospection: the step's location is the most frequent arg max_j c_j over candidates, then over beams. If in every
   beam slot it has been the location more than `threshold` times, and it is >= 10, the search goes back to the token at
   location + 1 (at most `candidates` times to each position, then one position earlier, then not at all), with the
   beams of that time, and there forbids what they had chosen. Whenever a condition fails, step 3 stands.

Defaults of the release: 5 beams, 5 candidates, scale 50, threshold 15, weight 1, window 512; its fast setting is 1
candidate and threshold 25. The run's decoding stays greedy: the search is OPERA's own, and one picture at a time. The
score is normalised over the candidates alone, so with weight 0 it equals plain beam search only if they are the whole
vocabulary. A beam that ends is worth its sum of log-probabilities by its length (length penalty 1, no early stop), where
`length_rule` says what the length is. `release`, as its transformers 4.29 has it: the ids of prompt and answer without
the stop id, a picture being one id, and a prompt of embeddings (its InstructBLIP) one id altogether; the search ends when
the best candidate, a finished one included, could not win any more. `answer`, as today's transformers has it: the ids of
the answer, stop id included, which favours longer answers.

Ours: candidates run as rows of one batch, and the chosen ones hand their keys and logits to the next step, so a step
costs one forward over beams x candidates rows (25 copies of the cache; the release runs them one by one). A snapshot of
a step is its tokens, scores and column products, no keys: these are computed again from the prompt's when the search
goes back. Products are summed as logarithms and held below float16's overflow. Forbidden tokens of positions after the
one gone back to are forgotten (the release clears others by a slip of the index).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from harness.contracts.call import Call, Request
from harness.contracts.method import Method
from harness.contracts.options import Within
from harness.errors import UserError
from methods.inputs.grid import layout

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model

TINY = 1e-7  # factor of the column score
RULED_OUT = -999.0
LOOK = 10  # up to this length looking at the image is rewarded; locations before it are never gone back to
HALF = 65504.0  # the largest float16


@dataclass(frozen=True, kw_only=True)
class Opera(Method):
    """Over-trust penalty and retrospection in a beam search of its own."""

    name = "opera"
    title = "OPERA: over-trust penalty and retrospection"
    paper = "2311.17911"
    needs = frozenset({"images"})
    search = frozenset({"greedy"})
    batching = "one"
    budget_unit = "weight of the penalty"
    prefill_is_dense = True
    options = {
        "num_beams": "beams",
        "candidates": "tokens that are tried in each beam; also how often one position is gone back to",
        "scale": "factor on attention weights before they are multiplied",
        "threshold": "the search goes back when a location was the largest more often than this",
        "weight": "of the penalty, on logits; 0 penalises nothing",
        "window": "steps that are remembered for going back, and the last position gone back to",
        "length_rule": "what a finished beam's score is divided by: release: prompt and answer; answer: the answer alone",
    }

    num_beams: Annotated[int, Within(2, 256)] = 5
    candidates: Annotated[int, Within(1, 1024)] = 5
    scale: float = 50.0
    threshold: int = 15
    weight: float = 1.0
    window: int = 512
    length_rule: Literal["release", "answer"] = "release"

    def validate(self) -> None:
        self.require(self.num_beams >= 2, "num_beams", "a beam search keeps at least 2")
        self.require(self.candidates >= 1, "candidates", "at least one token is tried")
        self.require(self.scale > 0, "scale", "it must be positive")
        self.require(self.threshold >= 2, "threshold", "a location cannot be a habit after fewer than 3 steps")
        self.require(self.weight >= 0, "weight", "it cannot be negative")
        self.require(self.window >= 3, "window", "going back needs at least 3 steps")
        self.require(self.length_rule in ("release", "answer"), "length_rule", "it is 'release' or 'answer'")

    def layers(self, view: Model) -> list[int]:
        return []  # no layer is changed: the search is

    def generate(self, request: Request, max_new_tokens: Sequence[int], stop: Sequence[int]) -> list[list[int]]:
        if len(request.drafts) != 1 or request.inputs.image is None:
            raise UserError("Method 'opera' takes one request at a time, and it must show a picture.")
        return [Run(self, request, max_new_tokens[0], stop).search()]


@dataclass(frozen=True, kw_only=True)
class LastRow(Method):
    """Keeps, of the last layer's newest query, the largest weight over heads: `seen["row"]` `[B, n_k]`, sum 1."""

    name = "last_row"
    title = "Keeps the newest attention row of the last layer"
    paper = "own"
    prefill_is_dense = True
    options = {"seen": "where it is kept"}

    seen: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def layers(self, view: Model) -> list[int]:
        return [view.n_layers - 1]

    def probs(self, ctx: Call, a: Tensor) -> None:
        if ctx.layer == ctx.view.n_layers - 1:
            row = a[:, :, -1].amax(1)
            self.seen["row"] = row / row.sum(-1, keepdim=True)


@dataclass
class Beams:
    """The state before a token is chosen: K beams that have the same length s."""

    tokens: Tensor  # int64 [K, s]
    scores: Tensor  # [K]: sums of log-probabilities
    products: Tensor  # [K, s]: log prod_{i >= j} scale * row_i[j], over the rows so far
    finished: tuple[tuple[float, list[int]], ...] = ()  # best first, at most K: score / length, tokens
    origin: tuple[Tensor, Tensor] | None = None  # what was chosen one step earlier: parent and token of each beam


class Run:
    """One answer being searched."""

    def __init__(self, method: Opera, request: Request, limit: int, stop: Sequence[int]) -> None:
        import torch
        from transformers import DynamicCache

        self.method, self.request, self.limit, self.stop = method, request, limit, list(stop)
        self.k, self.prompt = method.num_beams, request.inputs.ids.shape[1]
        self.counted = counted_prompt(request) if method.length_rule == "release" else 0
        out = request.forward(request.inputs, DynamicCache())  # plain layers: every key stays, whatever the mask shows
        self.prompt_cache = out.past_key_values  # one row; every step back starts from it
        self.logits = out.logits[:, -1].float().repeat(self.k, 1)  # [K, V] of the next token
        self.cache = self.copied(self.k)
        device = self.logits.device
        self.beams = Beams(
            torch.empty(self.k, 0, dtype=torch.long, device=device), torch.full((self.k,), -1e9, device=device),
            torch.empty(self.k, 0, device=device),
        )  # fmt: skip
        self.beams.scores[0] = 0.0  # the beams are still the same: only the first one counts
        self.finished = self.beams.finished
        self.history: list[Beams] = []
        self.locations: list[Tensor] = []  # int64 [K] of each step
        self.returns: dict[int, int] = {}  # position -> how often the search went back to it
        self.forbidden: dict[int, Tensor] = {}  # position -> parent * V + token

    # ----------------------------------------------------------------------------------------------------- the search

    def search(self) -> list[int]:
        """The best answer, its stop id included."""
        tell = self.request.count
        while True:
            tried = self.logits.topk(min(self.method.candidates, self.logits.shape[1]), dim=-1).indices  # [K, n]
            rows, logits = self.try_out(tried)
            penalty, products, place = self.judge(rows)
            self.history = [*self.history[1 - self.method.window :], self.beams]
            self.locations.append(place)
            back = self.position(place)
            if back is None:
                scored = self.logits.new_full(self.logits.shape, RULED_OUT)
                scored.scatter_(1, tried, self.logits.gather(1, tried) - self.method.weight * penalty)
            else:
                scored = self.go_back(back)
            tell("penalty", penalty)
            tell("gone_back", float(back is not None))
            parents, tokens, scores, done = self.choose(scored.log_softmax(-1))
            if done:
                return self.finished[0][1]
            self.advance(parents, tokens, scores, tried if back is None else None, products, logits)

    def try_out(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Attention rows `[K, n, keys]` and next logits `[K, n, V]` of every candidate; the cache grows to K * n rows."""
        k, n = candidates.shape
        self.cache.batch_repeat_interleave(n)
        row, logits = self.forward(candidates.reshape(-1, 1))
        return row.view(k, n, -1), logits.view(k, n, -1)

    def judge(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Penalties `[K, n]`, log products with the candidate's row `[K, n, R]`, the location of each slot `[K]`."""
        products = grown(self.beams.products, rows[..., self.prompt :], self.method.scale)
        columns = column_scores(products)
        place = columns.argmax(-1).mode(dim=-1).values
        length = products.shape[-1]
        if length > LOOK:
            return columns.amax(-1), products, place
        image = self.request.inputs.image
        assert image is not None
        return -rows[..., : self.prompt][..., image[0]].sum(-1), products, place

    def choose(self, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Parents, tokens and scores `[K]` of the beams that go on, and whether none should."""
        import torch

        now, length = self.beams, self.beams.tokens.shape[1] + 1
        spare = max(2, 1 + len(self.stop)) * self.k  # so that K are left if the best ones end
        flat = (log_p + now.scores[:, None]).flatten()
        values, index = flat.topk(min(spare, flat.numel()))
        parents, tokens = index // log_p.shape[1], index % log_p.shape[1]
        ends = torch.isin(tokens, tokens.new_tensor(self.stop)) | (length >= self.limit)
        finished = list(self.finished)
        for i in ends[: self.k].nonzero()[:, 0].tolist():
            answer = [*now.tokens[parents[i]].tolist(), int(tokens[i])]
            finished.append((self.worth(float(values[i]), answer), answer))
        self.finished = tuple(sorted(finished, key=lambda item: -item[0])[: self.k])
        going = (values - 1e9 * ends).topk(self.k).indices
        leader = float(values[0] if self.counted else values[going[0]] - 1e9 * ends[going[0]])
        best = leader / (self.counted + length)
        hope = len(self.finished) < self.k or best > self.finished[-1][0]
        return parents[going], tokens[going], values[going], bool(ends.all()) or not hope

    def worth(self, total: float, answer: Sequence[int]) -> float:
        """What a finished beam counts: its sum of log-probabilities by its length."""
        stops = self.counted > 0 and answer[-1] in self.stop  # the release keeps beams without their stop id
        return total / (self.counted + len(answer) - stops)

    def advance(
        self, parents: Tensor, tokens: Tensor, scores: Tensor, candidates: Tensor | None, products: Tensor, logits: Tensor
    ) -> None:  # fmt: skip
        """Append the chosen tokens. Where all were candidates, their forward has been made; otherwise it is now."""
        import torch

        old = self.beams
        known = candidates[parents] == tokens[:, None] if candidates is not None else None  # [K, n]
        if known is not None and bool(known.any(1).all()):
            which = known.long().argmax(1)
            self.cache.batch_select_indices(parents * known.shape[1] + which)
            products, self.logits = products[parents, which], logits[parents, which]
        else:
            if candidates is not None:  # back to K rows, without the candidates
                self.cache.batch_select_indices(parents * candidates.shape[1])
                self.cache.crop(-1)
            else:
                self.cache.batch_select_indices(parents)
            row, self.logits = self.forward(tokens[:, None])
            products = grown(old.products[parents], row[:, None, self.prompt :], self.method.scale)[:, 0]
        grown_tokens = torch.cat((old.tokens[parents], tokens[:, None]), dim=1)
        self.beams = Beams(grown_tokens, scores, products, self.finished, (parents, tokens))

    # -------------------------------------------------------------------------------------------------- retrospection

    def position(self, place: Tensor) -> int | None:
        """The position whose token is to be chosen again; None: go on."""
        import torch

        location = int(place.mode().values)
        often = (torch.stack(self.locations, dim=-1) == location).sum(-1)  # [K]
        if location < LOOK or not bool((often > self.method.threshold).all()):
            return None
        length = self.beams.tokens.shape[1] + 1
        back = location + 1
        if self.returns.get(back, 0) >= self.method.candidates:
            back -= 1
        if self.returns.get(back, 0) >= self.method.candidates or back >= self.method.window:
            return None
        back = max(back, length - len(self.history))  # what came before is forgotten
        self.returns[back] = self.returns.get(back, 0) + 1
        return back

    def go_back(self, position: int) -> Tensor:
        """Restore the beams that had `position` tokens; their logits, with what they chose there forbidden."""
        import torch

        steps = self.beams.tokens.shape[1] - position
        after = self.history[-steps]  # the state one step later knows what was chosen
        self.beams = self.history[-steps - 1]
        self.finished = self.beams.finished
        self.history, self.locations = self.history[:-steps], self.locations[:-steps]
        self.cache = self.copied(self.k)
        _, self.logits = self.forward(self.beams.tokens, watch=False)
        assert after.origin is not None
        chosen = after.origin[0] * self.logits.shape[1] + after.origin[1]
        for later in [p for p in self.forbidden if p > position]:
            del self.forbidden[later]
        before = self.forbidden.get(position)
        self.forbidden[position] = chosen if before is None else torch.cat((before, chosen))
        scored = self.logits - (self.logits.amin(-1, keepdim=True) - RULED_OUT)
        return scored.flatten().index_fill(0, self.forbidden[position], RULED_OUT).view_as(scored)

    # ------------------------------------------------------------------------------------------------------- the model

    def copied(self, rows: int) -> Any:
        """The cache of the prompt, `rows` times."""
        cache = copy.deepcopy(self.prompt_cache)
        cache.batch_repeat_interleave(rows)
        return cache

    def forward(self, tokens: Tensor, watch: bool = True) -> tuple[Tensor, Tensor]:
        """Read `tokens` `[B, n]` behind the cache: newest attention row `[B, keys]` and next logits `[B, V]`."""
        probe, read = LastRow(), self.cache.get_seq_length() - self.prompt
        places = self.request.inputs.repeat(len(tokens)).further(tokens.shape[1], read)
        forward: Any = self.request.forward
        out = forward(tokens, self.cache, under=probe if watch else None, **places)
        return probe.seen.get("row", tokens), out.logits[:, -1].float()


def counted_prompt(request: Request) -> int:
    """Ids of the prompt as the release counts them: a picture is one, a prompt of embeddings is one altogether."""
    image, pictures = request.inputs.image, len(request.drafts[0].images)
    assert image is not None
    if layout(request.view) == "Queries":
        return 1
    return request.inputs.ids.shape[1] - int(image.sum()) + max(pictures, 1)


def grown(products: Tensor, rows: Tensor, scale: float) -> Tensor:
    """Log products `[K, n, R]` of columns, from those of the rows so far `[K, R - 1]` and new rows `[K, n, R]`."""
    from torch.nn.functional import pad

    return pad(products, (0, 1))[:, None] + (scale * rows).log()


def column_scores(products: Tensor) -> Tensor:
    """c = 1e-7 exp(products), as float16 has it, in float32."""
    scores = (products + math.log(TINY)).exp().clamp(max=HALF)
    return scores.half().float()
