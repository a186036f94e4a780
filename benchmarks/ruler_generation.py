"""How long RULER's examples take to build, and to read back.

    python benchmarks/ruler_generation.py [--length 4096] [--samples 100]

How it measures. A byte-level BPE tokenizer (vocabulary 4096, a leading bos) is trained in memory on the built-in
essays and word lists; training is not timed. All 13 tasks are then built once through `harness.running.examples.prepared` into
an empty folder (`generate`: texts, token counts, writing the file) and asked for a second time (`read back`: the file
alone). Both are wall clock of one process; `TOKENIZERS_PARALLELISM=false`, so that one core does the work. The
built-in questions, essays and word lists are used, hence nothing is downloaded. The process's CPU seconds stand
beside the wall clock: on a busy machine they are the figure to compare.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness.contracts.example import Example
from harness.models.tokens import TextTokens
from harness.running.examples import prepared
from tasks.ruler import Ruler
from zoo.material.text import words

BOS = "<s>"


def small_bpe() -> TextTokens:
    """A byte-level BPE trained on the texts that ship with the package."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4096, initial_alphabet=alphabet, special_tokens=[BOS], show_progress=False)
    pieces = (f" {word}" for word in (*words.nouns(), *words.adjectives(), *words.verbs()))
    tokenizer.train_from_iterator((words.essay(), *pieces), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return TextTokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS), name="small-bpe")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, CPU seconds of this process)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--length", type=int, default=4096, help="tokens per example")
    parser.add_argument("--samples", type=int, default=100, help="examples per task")
    args = parser.parse_args()
    tokens = small_bpe()
    task = Ruler(lengths=(args.length,), samples=args.samples, seed=42)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("generate", "read back"):
            items, wall, cpu = timed(lambda: prepared(task, tokens, Path(folder)))
            fills = [item.meta["fill"] for item in items if isinstance(item, Example)]
            print(
                f"{name:>9}: {wall:6.2f} s wall, {cpu:6.2f} s cpu, {len(fills)} examples, "
                f"{len(items) - len(fills)} skipped, fill {min(fills):.3f} to {max(fills):.3f} of {args.length} tokens"
            )


if __name__ == "__main__":
    main()
