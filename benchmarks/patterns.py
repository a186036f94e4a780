"""Are the static patterns faster than dense causal SDPA at a prefill of 16K tokens, and by how much of what is
possible?

    python benchmarks/patterns.py                     # CPU, T = 16384, gather + SDPA
    python benchmarks/patterns.py --lowering flex     # CPU, compiled FlexAttention (the first call compiles)
    python benchmarks/patterns.py                     # with a GPU: T = 32768, 65536, 131072, FlexAttention

How it is measured. One layer of attention: batch 1, 4 heads, 4 key heads, head size 64, blocks of 256, random keys;
float32 on a CPU, bfloat16 on a GPU. Per round, dense causal SDPA and then every pattern run once, so that whatever else
the machine does meets all of them alike; after 2 warm-up rounds the median over the rounds is reported, with the 20 %
and 80 % quantiles of the ratio to the dense run of the same round. A GPU is synchronised before each clock reading.
Block lists and masks are made once per forward and shared by its layers, so their cost stands apart (`lists`), and
`break-even` says after how many layers it is paid.

The physical bound. Dense causal attention computes T (T + 1) / 2 pairs; a pattern that reads the share s of them cannot
be faster than 1 / s at the same speed per pair. `of bound` is measured ratio / (1 / s). Bar: power >= 1.3x dense at 16K
on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.masking_utils import causal_mask_function

from harness.attention.lowering.flex import block_mask
from harness.attention.lowering.lower import lower
from harness.attention.lowering.tiles import build, pairs
from harness.attention.mask import AskedMask
from methods.patterns.dilated import DilatedWindow
from methods.patterns.longnet import LongNet
from methods.patterns.power import PowerAttention
from methods.patterns.sliding import SlidingWindow
from methods.patterns.static import StaticPattern
from methods.patterns.stride_slash import StrideSlash

PATTERNS: tuple[StaticPattern, ...] = (
    PowerAttention(), SlidingWindow(), StrideSlash(), DilatedWindow(), LongNet(),
)  # fmt: skip
HEADS, KV_HEADS, HEAD_DIM, WARM_UP = 4, 4, 64, 2


def prefill(n: int, device: str) -> AskedMask:
    """What the library's mask call would have told us about a prompt of `n` tokens."""
    kwargs = {"batch_size": 1, "q_length": n, "kv_length": n, "mask_function": causal_mask_function, "device": device}
    return AskedMask(kwargs, lambda **_: None)


def seconds(run: Callable[[], Any], device: str) -> float:
    """Wall time of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(n: int, lowering: str, rounds: int, device: str) -> dict[str, Any]:
    """Times of all patterns at one length."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, h, n, HEAD_DIM, generator=generator).to(device, dtype) for h in (HEADS, KV_HEADS, KV_HEADS)
    )
    meta, scale = prefill(n, device), HEAD_DIM**-0.5
    runs: dict[str, Callable[[], Any]] = {"dense": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)}
    lists: dict[str, float] = {}
    for method in PATTERNS:
        lists[method.name], runs[method.name] = _prepared(method, meta, lowering, q, k, v, scale, device)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    kept = {name: torch.tensor(t[WARM_UP:]) for name, t in times.items()}
    dense = float(kept["dense"].median())
    rows = [_row(m, n, kept[m.name], kept["dense"], lists[m.name]) for m in PATTERNS]
    return {
        "tokens": n,
        "lowering": lowering,
        "device": device,
        "rounds": rounds,
        "dense_ms": dense * 1e3,
        "rows": rows,
    }


def _prepared(
    method: StaticPattern, meta: AskedMask, lowering: str, q: Tensor, k: Tensor, v: Tensor, scale: float, device: str
) -> tuple[float, Callable[[], Any]]:
    """Seconds to make the lists, and a call that finds them made."""
    blocks, span = method.blocks(), range(meta.n_q)
    make: Callable[[], Any] = lambda: build(blocks, span, span, None, device)  # noqa: E731
    if lowering == "flex":
        make = lambda: block_mask(blocks, span, span, None, device, HEADS)  # noqa: E731
    plans: dict[Any, Any] = {}
    made = min(seconds(make, device) for _ in range(3))
    return made, lambda: lower(lowering, blocks, meta, plans, q, k, v, scale, None)


def _row(method: StaticPattern, n: int, mine: Tensor, dense: Tensor, lists: float) -> dict[str, Any]:
    share = pairs(method.blocks(), n) / (n * (n + 1) // 2)
    ratio = dense / mine
    low, middle, high = (float(x) for x in ratio.quantile(torch.tensor([0.2, 0.5, 0.8])))
    gain = float(dense.median() - mine.median())
    return {
        "pattern": method.name, "ms": float(mine.median()) * 1e3, "ratio": middle, "ratio_20": low, "ratio_80": high,
        "share_read": share, "bound": 1 / share, "of_bound": middle * share, "lists_ms": lists * 1e3,
        "break_even_layers": lists / gain if gain > 0 else None,
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """One table."""
    print(
        f"{result['tokens']} tokens, {result['lowering']}, {result['device']}, median of {result['rounds']} rounds; "
        f"dense causal SDPA {result['dense_ms']:.0f} ms"
    )
    print(f"{'pattern':<14}      ms   ratio       20-80 %   share   bound  of bound  lists ms  break-even")
    for row in result["rows"]:
        even = "never" if row["break_even_layers"] is None else f"{row['break_even_layers']:.1f}"
        spread = f"{row['ratio_20']:.2f}-{row['ratio_80']:.2f}"
        print(
            f"{row['pattern']:<14}{row['ms']:>8.0f}{row['ratio']:>8.2f}{spread:>14}{row['share_read']:>8.3f}"
            f"{row['bound']:>8.2f}{row['of_bound']:>10.2f}{row['lists_ms']:>10.0f}{even:>12}"
        )


def main() -> None:
    """Measure and print; `--json` for machines."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 65536, 131072] if cuda else [16384])
    parser.add_argument("--lowering", choices=["gather", "flex"], default="flex" if cuda else "gather")
    parser.add_argument("--rounds", type=int, default=20 if cuda else 7)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with torch.no_grad():
        for n in args.tokens:
            result = measure(n, args.lowering, args.rounds, "cuda" if cuda else "cpu")
            print(json.dumps(result)) if args.json else show(result)


if __name__ == "__main__":
    main()
