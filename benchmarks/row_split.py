"""Is row-split attention faster than the eager attention that score edits are usually written in, and does it give the
same?

    python benchmarks/row_split.py                    # CPU, T = 1500
    python benchmarks/row_split.py --tokens 600 3000

How it is measured. One layer of attention in the shape of LLaVA-1.5-7B: batch 1, 32 heads, 32 key heads, head size 128,
random keys, an image of 576 tokens from column 35 on; float32 on a CPU, bfloat16 on a GPU. Two methods: `pai` edits the
last query row, `vaf` all rows after the image. Each is computed twice: `eager` is the library's eager maths with the
edit between the mask and the softmax, as the released codes have it, and `split` is causal SDPA for all rows plus
`harness.attention.edited_rows.edit_rows` for those that are edited (in decode the one row is computed there alone, as in a
run). `decode` is one query row on a cache of T keys. Per round
every variant runs once, so that whatever else the machine does meets all of them alike; after 2 warm-up rounds the
median over the rounds is reported, with the 20 % and 80 % quantiles of the ratio eager / split of the same round. A GPU
is synchronised before each clock reading. `over dense` is split / SDPA alone, what the method costs; `difference` is the
largest absolute one between the two outputs.

Bar: `pai` prefill at 1500 tokens on a CPU >= 1.5x faster than eager, equal within 1e-5.
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

from harness.attention.edited_rows import edit_rows
from methods.weights.boost import boosted
from methods.weights.vaf import factors

HEADS, HEAD_DIM, IMAGE, WARM_UP = 32, 128, slice(35, 611), 2
Edit = Callable[[Tensor], Tensor]


def eager(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, rows: slice, edit: Edit) -> Tensor:
    """Every row's scores, the additive mask, the edit of some rows, softmax in float32."""
    s = q @ k.transpose(2, 3) * HEAD_DIM**-0.5 + mask
    s[:, :, rows] = edit(s[:, :, rows])
    return s.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


def split(q: Tensor, k: Tensor, v: Tensor, shown: Tensor, rows: slice, edit: Edit) -> Tensor:
    """SDPA for every row, then the edited ones again. `shown` bool `[1, 1, R, n_k]`."""
    everything = torch.ones(1, shown.shape[2], dtype=torch.bool, device=q.device)
    base = dense(q, k, v) if q.shape[2] > 1 else None
    new = edit_rows(base, q, k, v, rows, shown, everything, HEAD_DIM**-0.5, scores=edit)
    assert new is not None
    return new


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What runs without a method."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)


def cases(n: int, image: Tensor) -> dict[str, tuple[int, slice, Edit]]:
    """Name -> query rows of the forward, edited ones, edit."""

    def pai(s: Tensor) -> Tensor:
        return boosted(s, 0.5 * image)

    def vaf(s: Tensor) -> Tensor:
        return s * factors(image, 1.15, 0.95)[:, None, None].to(s.dtype)

    return {
        "pai prefill": (n, slice(n - 1, n), pai),
        "vaf prefill": (n, slice(IMAGE.stop, n), vaf),
        "pai decode": (1, slice(0, 1), pai),
    }


def seconds(run: Callable[[], Any], device: str) -> float:
    """Wall time of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(n: int, rounds: int, device: str) -> dict[str, Any]:
    """All cases at one length."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, generator=generator).to(device, dtype) for _ in range(3))
    image = torch.zeros(1, n, dtype=torch.bool, device=device)
    image[:, IMAGE] = True
    causal = torch.ones(n, n, dtype=torch.bool, device=device).tril()[None, None]
    result: dict[str, Any] = {"tokens": n, "device": device, "rounds": rounds, "rows": []}
    for name, (n_q, rows, edit) in cases(n, image).items():
        part, seen = q[:, :, n - n_q :], causal[:, :, n - n_q :]
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
        variants: dict[str, Callable[[], Tensor]] = {
            "eager": lambda q=part, m=mask, r=rows, e=edit: eager(q, k, v, m, r, e),  # type: ignore[misc]
            "split": lambda q=part, m=seen[:, :, rows], r=rows, e=edit: split(q, k, v, m, r, e),  # type: ignore[misc]
            "dense": lambda q=part: dense(q, k, v),  # type: ignore[misc]
        }
        result["rows"].append({"case": name, "rows": rows.stop - rows.start, **_compare(variants, rounds, device)})
    return result


def _compare(variants: dict[str, Callable[[], Tensor]], rounds: int, device: str) -> dict[str, float]:
    difference = float((variants["eager"]() - variants["split"]()).abs().max())
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(WARM_UP + rounds):
        for name, run in variants.items():
            times[name].append(seconds(run, device))
    kept = {name: torch.tensor(t[WARM_UP:]) for name, t in times.items()}
    ratio = kept["eager"] / kept["split"]
    low, middle, high = (float(x) for x in ratio.quantile(torch.tensor([0.2, 0.5, 0.8])))
    return {
        **{f"{name}_ms": float(t.median()) * 1e3 for name, t in kept.items()},
        "ratio": middle, "ratio_20": low, "ratio_80": high,
        "over_dense": float((kept["split"] / kept["dense"]).median()), "difference": difference,
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """One table."""
    print(f"{result['tokens']} tokens, {result['device']}, median of {result['rounds']} rounds")
    print(f"{'case':<13}  rows  eager ms  split ms  dense ms   ratio       20-80 %  over dense  difference")
    for row in result["rows"]:
        spread = f"{row['ratio_20']:.2f}-{row['ratio_80']:.2f}"
        print(
            f"{row['case']:<13}{row['rows']:>6}{row['eager_ms']:>10.1f}{row['split_ms']:>10.1f}{row['dense_ms']:>10.1f}"
            f"{row['ratio']:>8.2f}{spread:>14}{row['over_dense']:>12.2f}{row['difference']:>12.1e}"
        )


def main() -> None:
    """Measure and print; `--json` for machines."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1500])
    parser.add_argument("--rounds", type=int, default=20 if cuda else 7)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with torch.no_grad():
        for n in args.tokens:
            result = measure(n, args.rounds, "cuda" if cuda else "cpu")
            print(json.dumps(result)) if args.json else show(result)


if __name__ == "__main__":
    main()
