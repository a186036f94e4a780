"""Small lm-eval tasks with local data: the YAML files and their JSON lines, written into a folder. Nothing is downloaded.

`toy_choice` is like hellaswag (multiple choice, few-shot from its own split), `toy_sums` like gsm8k (generated answers,
two filters), `toy_text` like wikitext (long texts), `toy_last` like lambada (one continuation), `toy_pairs` has
metrics that are no means (f1, mcc), `toy_words` has bleu. `toy` is the group of the first two, `toy_generated` a tag.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

WORDS = [
    "river",
    "stone",
    "garden",
    "window",
    "letter",
    "candle",
    "morning",
    "silver",
    "forest",
    "paper",
    "winter",
    "bridge",
]

CHOICE = """
task: toy_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choice.jsonl, train: {folder}/choice_train.jsonl}}}}
output_type: multiple_choice
test_split: test
fewshot_split: train
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 2.0}}
"""

SUMS = """
task: toy_sums
tag: toy_generated
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n", "Q:"], max_gen_toks: 24, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
filter_list:
  - name: first-number
    filter: [{{function: regex, regex_pattern: "([0-9]+)"}}, {{function: take_first}}]
  - name: last-number
    filter: [{{function: regex, regex_pattern: "([0-9]+)", group_select: -1}}, {{function: take_first}}]
metadata: {{version: 1.0}}
"""

TEXT = """
task: toy_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/text.jsonl}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: word_perplexity}}
  - {{metric: byte_perplexity}}
  - {{metric: bits_per_byte}}
metadata: {{version: 1.0}}
"""

LAST = """
task: toy_last
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/last.jsonl}}}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' ' + text.split(' ')[-1]}}}}"
metric_list:
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""

PAIRS = """
task: toy_pairs
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/pairs.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_target: label
doc_to_choice: ["no", "yes"]
metric_list: [{{metric: mcc}}, {{metric: f1}}, {{metric: brier_score, aggregation: brier_score, higher_is_better: false}}]
metadata: {{version: 1.0}}
"""

BLEU = """
task: toy_words
tag: toy_generated
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/words.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{text}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 16}}
metric_list: [{{metric: bleu}}]
metadata: {{version: 1.0}}
"""

GROUP = """
group: toy
task: [toy_choice, toy_last]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
metadata: {version: 3.0}
"""


def write(folder: Path, n: int = 8) -> Path:
    """Write tasks and `n` documents each into `folder`, and return it."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    datasets.disable_progress_bars()
    rng = Random(7)
    _rows(folder / "choice.jsonl", [_choice(rng) for _ in range(n)])
    _rows(folder / "choice_train.jsonl", [_choice(rng) for _ in range(6)])
    _rows(folder / "sums.jsonl", [_sum(rng) for _ in range(n)])
    _rows(folder / "text.jsonl", [{"text": _text(rng, 20 + 30 * i)} for i in range(n // 2)])
    _rows(folder / "last.jsonl", [{"text": _text(rng, 5 + i)} for i in range(n)])
    _rows(folder / "pairs.jsonl", [{"text": _text(rng, 6) + " Right?", "label": i % 2} for i in range(n)])
    _rows(folder / "words.jsonl", [{"text": _text(rng, 8)} for _ in range(n)])
    files = {"choice": CHOICE, "sums": SUMS, "text": TEXT, "last": LAST, "pairs": PAIRS, "words": BLEU}
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))
    (folder / "group.yaml").write_text(GROUP)
    return folder


def _text(rng: Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def _choice(rng: Random) -> dict[str, Any]:
    choices = [_text(rng, rng.randint(1, 4)) for _ in range(4)]
    return {"context": _text(rng, 12) + " ", "choices": choices, "label": rng.randrange(4)}


def _sum(rng: Random) -> dict[str, Any]:
    a, b = rng.randint(1, 40), rng.randint(1, 40)
    return {"question": f"Q: {_text(rng, 6)} {a} + {b}?\nA:", "answer": str(a + b)}


def _rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
