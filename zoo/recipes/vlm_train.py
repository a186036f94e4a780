"""Makes `micro-vlm` and `micro-vlm-careful` from their recipes: `python -m zoo.recipes.vlm_train --out DIR --seed S`.

Every leg is learned once and stands in the results folder like any lesson, so a training that was stopped or killed goes on when
the same command runs again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig, LlavaForConditionalGeneration

from harness.cli import guarded, learn
from zoo.recipes import vlm_tokenizer
from zoo.recipes.vlm_legs import LEGS, SHIPPED, lineage
from zoo.recipes.vlm_recipe import recipe


def ship(model: LlavaForConditionalGeneration, out: Path) -> None:
    """Weights in bfloat16, configuration, tokenizer, image processor and chat template."""
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False)
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    vlm_tokenizer.save(out)


def make(name: str, seed: int, pools: Path, out: Path, results: Path) -> None:
    """Learn a leg and everything before it, and write the finished folder with the log of all its legs."""
    learned, _ = learn(recipe(name, seed, pools), results)
    trainee = recipe(name, seed, pools).network()
    trainee.load_state_dict(dict(learned.tensors))
    ship(trainee.model, out)
    rows: list[str] = []
    for leg in lineage(name):
        _, log = learn(recipe(leg, seed, pools), results)
        rows += [json.dumps({"leg": leg, **json.loads(row)}) + "\n" for row in log.read_text("utf-8").splitlines()]
    (out / "training_log.jsonl").write_text("".join(rows), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="1 is the shipped pair")
    parser.add_argument("--out", type=Path, required=True, help="receives the folders micro_vlm and micro_vlm_careful")
    parser.add_argument("--work", type=Path, help="keeps the scenes that were drawn")
    parser.add_argument("--results", type=Path, default=Path("results"), help="keeps what was learned, to go on from")
    parser.add_argument("--leg", nargs="+", choices=list(LEGS), default=list(SHIPPED))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pools = args.work or Path("build") / "zoo_vlm" / f"seed{args.seed}"

    def legs() -> int:
        for name in args.leg:
            if name in SHIPPED:
                make(name, args.seed, pools, args.out / SHIPPED[name], args.results)
            else:
                learn(recipe(name, args.seed, pools), args.results)
        return 0

    return guarded(legs)


if __name__ == "__main__":
    sys.exit(main())
