"""One dense prefill, seen by several attached methods: each fills and edits a cache of its own from the same queries,
keys and values, as if it had read the prompt alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.attention.runtime import Runtime
from harness.contracts.method import Method

if TYPE_CHECKING:
    from harness.models.view import View


class SharedPrefill(Runtime):
    """Computes the model's own attention and shows every layer call to the members."""

    def __init__(self, view: View, members: Sequence[Runtime]) -> None:
        super().__init__(view, Method(), "auto")
        self.members = members

    @contextmanager
    def around(self) -> Iterator[None]:
        """The `around` contexts of all members: each may need to patch or watch modules while the prompt is read."""
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.around())
            yield

    def attention(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, meta: Any, scaling: float | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """q `[B, H, n_q, D]`, k and v `[B, H_kv, n_k, D]` -> `[B, n_q, H, D]` and weights."""
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        out, weights = self.inner(module, q, k, v, meta.stock, scaling=scaling, **kwargs)
        made: dict[Hashable, Any] = {}

        def once(key: Hashable, make: Callable[[], Any]) -> Any:
            if key not in made:
                made[key] = make()
            return made[key]

        for member in self.members:
            member.watch(module.layer_idx, meta, q, k, v, scaling, once)
        return out, weights
