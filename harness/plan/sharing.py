"""Which cells are computed side by side, from one dense prefill of each batch. Imports no torch.

A method joins if reading the prompt is dense for it (`prefill_is_dense`) and each of its hooks leaves that prefill as it
is (`Hook.shares_prefill`): it chooses what decode reads, or cuts a cache of its own. Cells of one task and model
with equal batches (the same `batching`) and equal prefills (of the prompt, or of the context before its question) stand
together; a cell without company runs by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.contracts.question import PREFILL

if TYPE_CHECKING:
    from harness.asking.decoding import Decoding
    from harness.plan.cells import Cell


def route(cell: Cell, decoding: Decoding) -> str | None:
    """`prefill` if the cell can go on from a dense prefill that others use too; None if it runs by itself."""
    method, task = cell.method, cell.task
    leaves_prefill = method.prefill_is_dense and all(hook.shares_prefill for hook in method.hooks)
    able = leaves_prefill and method.batching != "one"
    plain = PREFILL in task.asks.shares and not task.needs_images
    return PREFILL if able and plain and decoding.search in ("greedy", "sample") else None


def groups(cells: Sequence[Cell], decoding: Decoding, share: bool = True) -> list[list[Cell]]:
    """The cells of one task and model, those side by side in one list; dense comes first, the order is kept."""
    found: dict[object, list[Cell]] = {}
    for cell in cells:
        way, method = route(cell, decoding) if share else None, cell.method
        name = (way, method.batching, method.question_phase == "decode") if way else cell.run_id
        found.setdefault(name, []).append(cell)
    return list(found.values())
