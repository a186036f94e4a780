"""The contract of an attention method: a frozen dataclass whose fields are its parameters and whose hooks do the work.

Overriding a hook is what installs it; a hook that is not overridden costs nothing. Facts about the method are class
variables: the tables, the capability errors and the test matrix are made from them. This module imports no torch, so
that a plan can be made and listed without it; method modules keep to the same rule (tensors are reached through their
own methods, or torch is imported inside a hook).

Shapes: B batch, H query heads, H_kv key heads, n_q query rows of this forward, n_k keys (the cache included), D head
size. A *position* is the absolute column of a token in its row of the batch, padding included; logical position =
position - n_pad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.contracts.call import Ask, Blocks, Call, Request
from harness.contracts.hooks import HOOKS, Hook
from harness.contracts.inputs import Draft
from harness.contracts.lesson import Calibration
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.model import Model


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base class of all methods, and itself the identity. Subclasses are `@dataclass(frozen=True, kw_only=True)`."""

    group: ClassVar[str] = "method"  # of the configuration
    name: ClassVar[str] = ""  # key under which `configs/<group>/<name>.yaml` puts it
    title: ClassVar[str] = ""  # one line for people
    paper: ClassVar[str] = ""  # arXiv id or URL; "own" for ours
    phases: ClassVar[frozenset[str]] = frozenset({"prefill", "decode"})  # elsewhere the model's own attention runs
    needs: ClassVar[frozenset[str]] = frozenset()  # of {"rotary", "gpu", "trained", "images", "second_stream"}
    search: ClassVar[frozenset[str]] = frozenset({"greedy", "sample", "beam"})  # decoding it can work with
    # rows that `scores`, `probs` and `edit_output` may edit. last: those that predict what is new, which are the prompt's last
    # and every decode step, and where a given text is scored in one pass all that predict a scored token
    query_rows: ClassVar[Literal["last", "after_image", "all"]] = "last"
    budget_unit: ClassVar[str] = ""  # what its main knob means, in words; whether it leaves keys out its hooks say
    budget_on: ClassVar[Literal["context", "prompt"]] = (
        "context"  # what `idle` counts: the prompt with what is generated, or alone
    )
    prefill_is_dense: ClassVar[bool] = False  # the forward over the prompt computes exactly what dense computes
    prefix_safe: ClassVar[bool] = False  # a prompt may be processed in pieces on one cache, and a shared prefix reused
    batching: ClassVar[Literal["any", "equal", "one"]] = "any"  # equal: prompts of one length in each batch
    options: ClassVar[dict[str, str]] = {}  # parameter -> what it means
    hooks: ClassVar[tuple[Hook, ...]] = ()  # those that the class overrides, found once for each class

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hooks = tuple(h for h in HOOKS.values() if getattr(cls, h.name) is not getattr(Method, h.name))

    def __post_init__(self) -> None:
        for key, value in list(vars(self).items()):
            if isinstance(value, list):  # configs hold lists; equal methods must compare and hash alike
                object.__setattr__(self, key, tuple(value))

    # ------------------------------------------------------------------------------------------------------ facts

    def validate(self) -> None:
        """Raise `UserError` for senseless parameters. Called when the plan is made, before a model is loaded."""

    def check(self, view: Model) -> None:
        """Raise `UserError`, with the reason, if this model cannot be served."""

    def layers(self, view: Model) -> list[int]:
        """The layers in which the method is expected to act; the rest stay dense."""
        return list(range(view.n_layers))

    def lesson(self) -> Calibration | None:
        """What must be learned about a model before the method can act on it: obtained before the run, and handed to hooks as
        `Request.artifact`. It depends on nothing that only matters later, such as strengths, so variants share it.
        """

    def idle(self, n: int) -> str:
        """Why the method changes nothing on a context of `n` tokens (what that is: `budget_on`), as a sentence with the
        remedy; empty if it does act. Every sample is asked about, so the answer must be exact: sinks, recent keys and the
        query's own block are read, too.
        """
        return ""

    def receptive_field(self, n: int, n_layers: int) -> float | None:
        """Share of a context of `n` tokens that can reach its last token through `n_layers`, by arithmetic on the pattern.

        None: not a static pattern, so arithmetic does not tell.
        """

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Layers that an option of this name leaves dense; a model that has fewer layers is refused."""
        return ()

    @property
    def artifact(self) -> str | None:
        """The file that an option of this name gives in place of the lesson."""
        return None

    @property
    def num_beams(self) -> int:
        """Rows that a search of its own keeps for each request."""
        return 1

    def blocks(self) -> Blocks | None:
        """The pattern of a layer that is not full, where positions alone decide it, so that its pairs can be counted before
        anything runs; None: no static pattern.
        """
        return None

    @property
    def question_phase(self) -> str:
        """In which phase the question is read, `prefill` or `decode`, where that makes a difference to the method (see
        `AfterContext`); else empty, and it is prefilled with the rest of the prompt.
        """
        return ""

    @property
    def leaves_out(self) -> bool:
        """Whether it is there to leave keys out, so that reading as many as dense would be doing nothing."""
        return any(hook.leaves_out for hook in self.hooks)

    @property
    def rewrites_prompt(self) -> bool:
        """Whether the model may read another prompt, or other pictures, than the task gave."""
        return any(hook.rewrites_prompt for hook in self.hooks)

    @property
    def searches(self) -> bool:
        """Whether it brings a search of its own, which runs the prefill and every step."""
        return any(hook.at == "search" for hook in self.hooks)

    @property
    def tracks_keys(self) -> bool:
        """Whether it needs a cache that keeps every key of every layer with its true position."""
        return any(hook.tracks_keys for hook in self.hooks)

    def require(self, condition: bool, key: str, rule: str) -> None:
        """`UserError` naming the option unless `condition`."""
        if not condition:
            raise UserError(
                f"{self.group}.{self.name}.{key} is {getattr(self, key)!r}, but {rule}. "
                f"Meaning of '{key}': {self.options.get(key, 'see the README of the methods')}."
            )

    def lower(self, **helps: bool) -> str:
        """The remedy of `idle`: which of its options, lowered alone, would make the method act; all of them where none does."""
        keys = [key for key, help in helps.items() if help] or list(helps)
        joined = (" or " if any(helps.values()) else " and ").join(f"{self.group}.{self.name}.{key}" for key in keys)
        return f"lower {joined}, or use longer prompts"

    # ------------------------------------------------------------------------- hooks, in the order data meets them

    def around(self, view: Model) -> AbstractContextManager[Any]:
        """Entered while the method is at work and left whatever happens: for a library of its own that wants to see or
        patch modules. What it changes it must take back.
        """
        return nullcontext()

    def transform(self, view: Model, draft: Draft, ask: Ask) -> Draft:
        """Before the processor: another prompt or other pictures. Of a dialogue it is given every turn, with the history as
        it was said: what it made of earlier turns does not stand there.
        """
        return draft

    def begin(self, request: Request) -> dict[str, Any] | None:
        """Before the prefill of a request: extra forwards, state. May return `{"positions": int64 [B, T]}`."""

    def layer_in(self, ctx: Call, x: Tensor) -> Tensor | None:
        """Before a decoder layer: the residual stream `[B, n_q, width]`. None: unchanged."""

    def mask(self, ctx: Call, shown: Tensor) -> Tensor | None:
        """Prefill and decode: which keys a query may see, bool `[B, 1, n_q, n_k]`, given what the model shows. A row
        must see a key. None: unchanged.
        """

    def scores(self, ctx: Call, s: Tensor) -> Tensor | None:
        """Before the mask and the softmax: scaled scores `[B, H, R, n_k]` (float32) of the `query_rows`. In a batch a
        sample's rows outside its own `query_rows` stay as they were, whatever is returned. None: unchanged.
        """

    def probs(self, ctx: Call, a: Tensor) -> Tensor | None:
        """After the softmax: attention weights `[B, H, R, n_k]` (float32) of the `query_rows`, as in `scores`."""

    def edit_output(
        self, ctx: Call, out: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Callable[[], Tensor]
    ) -> Tensor | None:
        """After the model's own attention, for what is known in closed form: the output `[B, H, R, D]` of the `query_rows`, given
        q `[B, H, R, D]` of the same rows, k and v `[B, H_kv, n_k, D]`. A key that `ctx.visible` shows has the weight
        `exp(score - lse())`, where the score is scaled (`ctx.scaling`) and soft-capped (`view.softcap`) and `lse()` is
        `[B, H, R]` (float32), sink logits included, computed when it is asked for. None: unchanged.
        """

    def pattern(self, ctx: Call, q: Tensor, k: Tensor) -> Blocks | None:
        """Prefill and decode: which key blocks are read. None: this call stays dense."""

    def select(self, ctx: Call, q: Tensor, k: Tensor) -> Tensor | None:
        """Decode: the keys to read, int64 `[B, H or H_kv, n]` of columns of `k`; entries outside [0, n_k) mean nothing.

        None: this call stays dense. The model's own mask is applied on top of the selection.
        """

    def edit_cache(self, ctx: Call, layer_cache: Any) -> Tensor | None:
        """After the attention of a layer: the columns that stay in its cache, int64 `[B, H_kv, n]`, ascending.

        None: nothing is dropped. `layer_cache.keys` and `.values` `[B, H_kv, n_k, D]` may be rewritten in place of
        being replaced; `ctx.q` holds the queries of this forward.
        """

    def heads(self, ctx: Call, z: Tensor) -> Tensor | None:
        """Before the output projection: head outputs `[B, n_q, H, D]`. None: unchanged."""

    def attn_out(self, ctx: Call, a: Tensor) -> Tensor | None:
        """Output of the attention block `[B, n_q, width]`, before it is added to the residual. None: unchanged."""

    def router(self, ctx: Call, logits: Tensor, weights: Tensor, experts: Tensor) -> tuple[Tensor, Tensor] | None:
        """Where a layer of experts has chosen: router logits `[B, n_q, E]`, and of the k experts of each token the weights
        `[B, n_q, k]`, normalised as the family does it, and their numbers `[B, n_q, k]` (int64). Returns other weights and
        experts of these shapes; a weight of 0 silences an expert. None: unchanged.
        """

    def mlp_out(self, ctx: Call, m: Tensor) -> Tensor | None:
        """Output of the feed-forward block `[B, n_q, width]`, before it is added to the residual. None: unchanged."""

    def layer_out(self, ctx: Call, x: Tensor) -> Tensor | None:
        """After a decoder layer: the residual stream `[B, n_q, width]`. None: unchanged."""

    def logits(self, ctx: Call, z: Tensor) -> Tensor | None:
        """At the language head: `[B, n, vocabulary]`. None: unchanged. `ctx.layer` is the number of layers."""

    def generate(self, request: Request, max_new_tokens: Sequence[int], stop: Sequence[int]) -> list[list[int]]:
        """A search of its own: the new ids of each sample. The prefill and every step are the method's to run."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AfterContext(Method):
    """Base of methods that act after a dense prefill: they compress its cache, or choose what decode reads of it.

    Their papers evaluate them in two ways, which answer different questions. `prefill`: the whole prompt is prefilled, so
    the method knows the question when it compresses, and the first token of the answer never sees it at work. `decode`:
    only the context is prefilled; everything from where the question begins (`Generate.query`) to the end of the
    prompt, template and answer prefix included, is read one token at a time under the method.
    """

    phases = frozenset({"decode"})
    prefill_is_dense = True
    options: ClassVar[dict[str, str]] = {
        "question": "prefill: it is part of the dense prefill; decode: only the context is, and it is read token by token"
    }

    question: Literal["prefill", "decode"] = "prefill"

    def validate(self) -> None:
        self.require(self.question in ("prefill", "decode"), "question", "it is 'prefill' or 'decode'")

    @property
    def question_phase(self) -> str:
        return self.question
