"""Makes `micro-lm` from its recipe: `python -m zoo.recipes.lm_train --seed S --out DIR`.

What is learned stands in the results folder like that of any lesson, so a training that was stopped or killed goes on when the
same command runs again. `--out` receives a folder that `from_pretrained` accepts, with the log of the training beside the
weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM

from harness.cli import guarded, learn
from zoo.recipes import lm_tokenizer
from zoo.recipes.lm_recipe import MicroLM


def ship(model: LlamaForCausalLM, out: Path) -> None:
    """Write weights, configuration and tokenizer so that ``from_pretrained`` needs nothing else."""
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2, do_sample=False)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    lm_tokenizer.save(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="1 is the shipped checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="receives the finished checkpoint")
    parser.add_argument("--results", type=Path, default=Path("results"), help="keeps what was learned, to go on from")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # every batch has its own shape: saves gigabytes
    torch.set_num_threads(args.threads)
    return guarded(lambda: make(MicroLM(seed=args.seed), args.out, args.results))


def make(recipe: MicroLM, out: Path, results: Path) -> int:
    """Learn the recipe and write the finished folder."""
    learned, log = learn(recipe, results)
    model = recipe.network()
    model.load_state_dict(dict(learned.tensors))
    ship(model, out)
    (out / "training_log.jsonl").write_bytes(log.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
