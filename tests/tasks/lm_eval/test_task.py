"""`task=lm_eval`: examples, options, scores and identity."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.contracts.example import Example, Skipped
from harness.contracts.question import Requests
from harness.errors import UserError
from harness.exchange.score import _scored
from harness.models.tokens import TextTokens
from harness.plan.identities import task_identity
from tasks.lm_eval import LmEval
from tasks.lm_eval.build import generation, plain
from tasks.lm_eval.totals import restored, result
from tests.models import small
from tests.tasks.lm_eval.material import write

pytest.importorskip("lm_eval")  # the optional extra

TOKENS = TextTokens(small.tokenizer(), name="bytes")


def task(folder: Path, *names: str, **options: Any) -> LmEval:
    made = LmEval(tasks=names or ["toy_choice"], include=[str(folder)], **options)
    made.validate()
    return made


def examples(made: LmEval, tokens: Any = TOKENS) -> list[Example]:
    return [e for e in made.examples(tokens) if isinstance(e, Example)]


# -- examples ---------------------------------------------------------------------------------------------------------


def test_a_document_is_an_example_with_its_requests(folder: Path) -> None:
    one = examples(task(folder))[0]
    assert (one.id, one.cluster, one.meta["task"], one.meta["doc_id"]) == (
        "toy_choice/0",
        "toy_choice/0",
        "toy_choice",
        0,
    )
    assert [r.type for r in one.question.requests] == ["loglikelihood"] * 4
    assert [r.continuation for r in one.question.requests] == [f" {c}" for c in one.meta["doc"]["choices"]]
    assert one.question.contexts == (one.meta["doc"]["context"],) and one.references == (str(one.meta["doc"]["label"]),)


def test_generated_answers_have_their_stop_strings_and_limit(folder: Path) -> None:
    request = examples(task(folder, "toy_sums"))[0].question.requests[0]
    assert (request.until, request.max_new_tokens) == (("\n\n", "Q:"), 24)
    other = task(folder, "toy_sums", gen_kwargs={"max_gen_toks": 5, "until": "\n"})
    request = examples(other)[0].question.requests[0]
    assert (request.until, request.max_new_tokens) == (("\n",), 5)


def test_examples_are_the_same_every_time_and_more_change_no_earlier_one(folder: Path) -> None:
    few, all_ = (task(folder, num_fewshot=3, limit=n) for n in (3, None))
    first = examples(few)
    assert first == examples(few) == examples(all_)[:3] and len(examples(all_)) == 8
    assert first != examples(task(folder, num_fewshot=3, limit=3, fewshot_seed=5))


def test_a_task_does_not_depend_on_its_neighbours(folder: Path) -> None:
    alone = examples(task(folder, "toy_choice", num_fewshot=2))
    beside = examples(task(folder, "toy_sums", "toy_choice", num_fewshot=2))
    assert [e for e in beside if e.meta["task"] == "toy_choice"] == alone


def test_global_generators_are_left_alone(folder: Path) -> None:
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    examples(task(folder, "toy_last", num_fewshot=1))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_document_that_does_not_fit_is_skipped_with_the_reason(folder: Path) -> None:
    items = list(task(folder, "toy_last", max_length=60).examples(TOKENS))
    skipped = [i for i in items if isinstance(i, Skipped)]
    assert 0 < len(skipped) < len(items)
    assert "there are 60 positions" in skipped[0].reason and skipped[0].meta["task"] == "toy_last"


def test_a_group_stands_for_its_tasks(folder: Path) -> None:
    assert list(task(folder, "toy").loaded.tasks) == ["toy_choice", "toy_last"]
    with pytest.raises(UserError, match="'toy_choice' twice"):
        task(folder, "toy", "toy_choice")


@pytest.mark.slow  # members of a tag may stand anywhere, so all of the library's files are read
def test_a_tag_stands_for_its_tasks(folder: Path) -> None:
    assert sorted(task(folder, "toy_generated").loaded.tasks) == ["toy_sums", "toy_words"]


def test_prompts_go_through_the_chat_template(folder: Path) -> None:
    chat = TextTokens(small.tokenizer(chat=True), name="chat")
    made = task(folder, num_fewshot=1, apply_chat_template=True, system_instruction="Be brief.")
    context = examples(made, chat)[0].question.contexts[0]
    assert context.startswith("<s><system>Be brief.\n<user>") and context.endswith("<assistant>")
    assert context.count("<user>") == 2
    single = examples(replace(made, fewshot_as_multiturn=False), chat)[0].question.contexts[0]
    assert single.count("<user>") == 1
    with pytest.raises(UserError, match="no chat template"):
        examples(made)


def test_the_digest_of_an_example_covers_what_is_asked(folder: Path) -> None:
    one = examples(task(folder))[0]
    asked = one.asks(Requests)
    longer = (*asked.requests[:-1], replace(asked.requests[-1], continuation="x"))
    assert replace(one, question=replace(asked, requests=longer)).digest != one.digest
    assert replace(one, question=replace(asked, contexts=("other",))).digest != one.digest
    assert Example.from_row(json.loads(json.dumps(one.to_row())), Requests) == one


def test_the_digest_is_that_of_examples_of_every_age(folder: Path) -> None:
    """Requests once were mappings in `meta`, and what was asked is compared across versions by this digest."""
    for name in ("toy_choice", "toy_sums", "toy_text"):
        row = examples(task(folder, name))[0].to_row()
        kept = [row["prompt"], "", (), (), (), row["meta"]["contexts"], row["meta"]["requests"]]
        digest = hashlib.sha256(json.dumps(kept, ensure_ascii=False).encode()).hexdigest()[:16]
        assert examples(task(folder, name))[0].digest == digest


# -- options that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tasks": []}, r"task\.lm_eval\.tasks=\[hellaswag"),
        pytest.param({"tasks": ["toy_chioce"]}, "did you mean 'toy_choice'", marks=pytest.mark.slow),  # reads all names
        ({"limit": 0}, "limit is 0"),
        ({"num_fewshot": -1}, "num_fewshot is -1"),
        ({"include": ["/nowhere/at/all"]}, "no folder"),
        ({"tasks": ["toy_sums"], "gen_kwargs": {"do_sample": True}}, "asks for sampling .*do_sample: false"),
        ({"tasks": ["toy_sums"], "gen_kwargs": {"repetition_penalty": 1.2}}, "cannot honour"),
    ],
)
def test_senseless_options_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LmEval(**{"tasks": ["toy_choice"], "include": [str(folder)], **options}).validate()


def test_a_task_of_the_library_is_found_without_reading_all_of_them() -> None:
    from tasks.lm_eval.library import manager

    index = manager(["hellaswag", "arc_easy"], ())
    assert {"hellaswag", "arc_easy"} <= set(index.task_index) and len(index.task_index) < 1000


def _variant(folder: Path, tmp_path: Path, old: str, new: str) -> LmEval:
    shutil.copytree(folder, tmp_path / "changed", ignore=shutil.ignore_patterns("cache"))
    file = tmp_path / "changed" / "choice.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return LmEval(tasks=["toy_choice"], include=[str(tmp_path / "changed")])


def test_missing_data_name_three_ways_to_get_them(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"toy_choice.*three ways.*hub.*path.*generate"):
        _variant(folder, tmp_path, "choice.jsonl", "gone.jsonl").validate()


def test_code_that_the_model_writes_is_not_run_unasked(folder: Path, tmp_path: Path) -> None:
    made = _variant(folder, tmp_path, "metadata:", "unsafe_code: true\nmetadata:")
    with pytest.raises(UserError, match=r"executes code.*unsafe_code=true"):
        made.validate()
    replace(made, unsafe_code=True).validate()


def test_pictures_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pictures or sound"):
        _variant(folder, tmp_path, "metadata:", "doc_to_image: context\nmetadata:").validate()


def test_lengths_of_generated_answers_are_read_as_the_library_reads_them() -> None:
    assert generation("t", {}) == ([], 256)
    assert generation("t", {"max_new_tokens": 7, "until": "x", "temperature": 0.0}) == (["x"], 7)
    assert generation("t", {"max_gen_toks": 3, "max_tokens": 9, "do_sample": False, "temperature": 0.8}) == ([], 3)
    for wrong in ({"temperature": 0.5}, {"do_sample": True}, {"num_beams": 4}):
        with pytest.raises(UserError):
            generation("t", wrong)


# -- scores -----------------------------------------------------------------------------------------------------------


def test_scores_are_the_library_s(folder: Path) -> None:
    made = task(folder)
    one = examples(made)[0]
    label = one.meta["doc"]["label"]
    right = [[-1.0 if i == label else -9.0, False] for i in range(4)]
    assert made.score(one, right).metrics == {"acc": 1.0, "acc_norm": 1.0}
    assert made.score(one, [[-9.0 if i == label else -1.0, True] for i in range(4)]).metrics["acc"] == 0.0


def test_every_filter_has_its_own_number(folder: Path) -> None:
    made = task(folder, "toy_sums")
    one = examples(made)[0]
    found = made.score(one, [f" 7 and so {one.meta['doc']['answer']}"])
    assert found.metrics == {"exact_match,first-number": 0.0, "exact_match,last-number": 1.0}
    assert found.parsed["first-number"]["filtered"] == ["7"]


@pytest.mark.parametrize(
    "text, flag",
    [(None, "empty"), ("  ", "empty"), ("no json", "unparsed"), ("{}", "unparsed"), ("[[1, true]]", "wrong_length"),
     ('["a", "b", "c", "d"]', "unparsed")],
)  # fmt: skip
def test_outputs_of_another_form_add_nothing_and_are_flagged(folder: Path, text: str | None, flag: str) -> None:
    made = task(folder)
    found = _scored(made, examples(made)[0], text, given=True)
    assert (dict(found.metrics), found.flags) == ({}, (flag,))


def test_a_missing_generation_is_an_empty_one(folder: Path) -> None:
    made = task(folder, "toy_sums")
    found = made.score(examples(made)[0], None)
    assert set(found.metrics.values()) == {0.0} and found.flags == ("empty",)


def test_an_impossible_text_is_flagged_and_finite(folder: Path) -> None:
    made = task(folder, "toy_text")
    found = made.score(examples(made)[0], [-1e30])
    assert found.metrics["word_perplexity.sum"] == 1e30 and found.flags == ("infinite",)
    assert restored(found.parsed["none"]["metrics"]["word_perplexity"])[0] == float("-inf")


def test_data_that_changed_since_are_noticed(folder: Path) -> None:
    made = task(folder)
    one = examples(made)[0]
    with pytest.raises(UserError, match="data changed"):
        made.score(replace(one, meta={**one.meta, "doc": {"context": "another"}}), [[-1.0, True]] * 4)
    with pytest.raises(UserError, match=r"not in task\.lm_eval\.tasks"):
        task(folder, "toy_sums").score(one, [])


def test_metrics_that_are_no_sums_do_not_stand_under_their_name(folder: Path) -> None:
    metrics = {m.name: m for m in task(folder, "toy_pairs", "toy_words").metrics}
    assert set(metrics) == {"mcc_agreement", "f1", "brier_score", "bleu_per_document"}
    assert not metrics["mcc_agreement"].judged and not metrics["bleu_per_document"].judged
    assert (metrics["f1"].kind, metrics["f1"].undefined) == ("ratio", 0.0)
    assert metrics["brier_score"].judged and not metrics["brier_score"].higher_is_better


def test_totals_use_the_library_s_own_aggregation(folder: Path) -> None:
    from sklearn.metrics import matthews_corrcoef

    made = task(folder, "toy_pairs")
    guesses = [0, 1, 1, 1, 0, 0, 1, 1]
    rows = []
    for one, guess in zip(examples(made), guesses, strict=True):
        score = made.score(one, [[-1.0, False], [-0.5 if guess else -2.0, False]])
        rows.append({"meta": one.meta, "metrics": score.metrics, "parsed": score.parsed})
    found = result(made.loaded, rows)["results"]["toy_pairs"]
    assert found["mcc,none"] == pytest.approx(matthews_corrcoef([i % 2 for i in range(8)], guesses))
    assert found["mcc_stderr,none"] == "N/A" and found["sample_len"] == 8


def test_tasks_that_mean_different_things_by_one_name_keep_their_own(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "more", ignore=shutil.ignore_patterns("cache"))
    text = (folder / "last.yaml").read_text().replace("toy_last", "toy_worse")
    start, _, end = text.rpartition("higher_is_better: true")
    (tmp_path / "more" / "worse.yaml").write_text(f"{start}higher_is_better: false{end}")
    names = [m.name for m in task(tmp_path / "more", "toy_last", "toy_worse").metrics]
    assert names == ["perplexity", "toy_last/acc", "toy_worse/acc"]


# -- identity ---------------------------------------------------------------------------------------------------------


def _identity(made: LmEval) -> str:
    return json.dumps(task_identity(made), sort_keys=True)


def test_equal_tasks_in_another_folder_are_the_same(folder: Path, tmp_path: Path) -> None:
    assert _identity(task(folder)) == _identity(task(write(tmp_path / "elsewhere")))


@pytest.mark.parametrize(
    "old, new", [('"{{context}}"', '"{{context}}!"'), ("metric: acc_norm", "metric: acc_bytes"), ("2.0", "2.1")]
)
def test_another_configuration_is_another_task(folder: Path, tmp_path: Path, old: str, new: str) -> None:
    assert _identity(_variant(folder, tmp_path, old, new)) != _identity(task(folder))


def test_other_data_few_shot_settings_and_limits_are_another_task(folder: Path, tmp_path: Path) -> None:
    base = task(folder, num_fewshot=2)
    found = {_identity(base), _identity(task(folder, num_fewshot=3)), _identity(task(folder, num_fewshot=2, limit=4))}
    changed = write(tmp_path / "data")
    lines = (changed / "choice_train.jsonl").read_text()
    (changed / "choice_train.jsonl").write_text(lines.replace("river", "creek"))
    found.add(_identity(task(changed, num_fewshot=2)))
    assert len(found) == 4
    assert task(folder).provenance()["lm_eval"] == __import__("importlib.metadata").metadata.version("lm_eval")


def test_plain_values_are_json_and_come_back() -> None:
    value = (float("nan"), float("-inf"), 1.5, (1, "a"), np.int64(3), np.array([1.0, 2.0]))
    stored = json.loads(json.dumps(plain(value), allow_nan=False))
    assert stored == [None, -1e30, 1.5, [1, "a"], 3, [1.0, 2.0]]
    back = restored(stored)
    assert back[0] != back[0] and back[1] == float("-inf") and back[3] == (1, "a")


def test_the_library_is_not_imported_by_planning_other_tasks_or_listing() -> None:
    code = (
        "import sys\nfrom harness.cli import main\nassert main(['list', 'tasks']) == 0\nimport tasks.lm_eval\n"
        "assert not {'lm_eval', 'datasets', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lm_eval" in done.stdout


# -- files that are wrong or would run code ---------------------------------------------------------------------------


def own(folder: Path, extra: str = "", rows: str | bytes = '{"q": "a b", "a": "c"}\n') -> LmEval:
    """A task with one data file in a folder of its own; `extra` goes into its YAML file."""
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(rows.encode() if isinstance(rows, str) else rows)
    (folder / "mine.yaml").write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
        "output_type: generate_until\ntest_split: test\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        f"metric_list: [{{metric: exact_match}}]\n{extra}\n"
    )
    return LmEval(tasks=["mine"], include=[str(folder)])


PROOF = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n\ndef f(doc):\n    return doc['q']\n"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("process_results: !function code.f", r"runs Python code \(!function code\.f\): .*mine\.yaml, line 9\."),
        ("include: sub/base.yaml", r"runs Python code .*base\.yaml, line 1\."),
        ("x: {y: [1, !function os.system]}", r"runs Python code \(!function os\.system\)"),
        ("metric_list: [{metric: ./code}]", r"metric './code', which is none of the library's own"),
        ("metric_list: [{metric: accuracy, hf_evaluate: true}]", r"metric 'accuracy', which is none"),
        ("description: process_results\nmetric_list: [{metric: ./code}]", r"metric './code', which is none"),
        ("process_results: null\nmetric_list: [{metric: ./code}]", r"metric './code', which is none"),
    ],
)
def test_code_that_a_file_of_an_include_folder_names_is_not_run_unasked(tmp_path, extra, message) -> None:
    made = own(tmp_path / "t", extra)
    (tmp_path / "t" / "sub").mkdir()
    (tmp_path / "t" / "sub" / "base.yaml").write_text("doc_to_text: !function code.f\n")
    for folder in (tmp_path / "t", tmp_path / "t" / "sub"):
        (folder / "code.py").write_text(PROOF)
    with pytest.raises(UserError, match=message + r".*unsafe_code=true"):
        made.validate()
    assert not list(tmp_path.rglob("ran"))


def test_a_group_s_members_are_looked_at_and_other_tasks_of_the_folder_are_not(tmp_path) -> None:
    own(tmp_path / "t", "doc_to_text: !function code.f")
    (tmp_path / "t" / "group.yaml").write_text("group: several\ntask: [{group: inner, task: [{task: mine}]}]\n")
    with pytest.raises(UserError, match=r"'mine' runs Python code"):
        LmEval(tasks=["several"], include=[str(tmp_path / "t")]).validate()
    clean = own(tmp_path / "u")
    shutil.copy(tmp_path / "t" / "mine.yaml", tmp_path / "u" / "other.yaml")
    (tmp_path / "u" / "other.yaml").write_text((tmp_path / "t" / "mine.yaml").read_text().replace("mine", "other"))
    clean.validate()


def test_code_is_run_when_it_is_allowed(tmp_path) -> None:
    made = own(tmp_path / "t", "doc_to_text: !function code.f")
    (tmp_path / "t" / "code.py").write_text(PROOF)
    replace(made, unsafe_code=True).validate()
    assert (tmp_path / "t" / "ran").exists()


@pytest.mark.slow  # reads all names
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task: mine\n  bad: [", r"mine\.yaml: .*line 2"),
        (b"", r"mine\.yaml: Expected YAML dict"),
        (b"\xff\xfe\x00", r"mine\.yaml: "),
        (b"task: mine\ninclude: gone.yaml\n", r"mine\.yaml: .*gone\.yaml"),
    ],
)
def test_a_task_file_that_the_library_passes_over_is_named(tmp_path, content, message) -> None:
    made = own(tmp_path / "t")
    (tmp_path / "t" / "mine.yaml").write_bytes(content)
    with pytest.raises(
        UserError, match=r"has no task 'mine'.*cannot be read, so what it holds is not known: .*" + message
    ):
        made.validate()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", r"data file .*rows\.jsonl is empty"),
        ("no\n", r"rows\.jsonl, line 1 is not JSON"),
        ('{"q": "a", "a": "b"}\n[1]\n', r"rows\.jsonl, line 2 holds a list"),
        (b'{"q": "\xe9"}\n', r"rows\.jsonl is not UTF-8"),
    ],
)
def test_data_that_are_here_and_wrong_are_named_and_not_to_be_downloaded(tmp_path, rows, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        own(tmp_path / "t", rows=rows).validate()
    assert "three ways" not in str(caught.value) and "StopIteration" not in str(caught.value)


def test_a_template_that_does_not_fit_its_documents_is_the_task_s_mistake(tmp_path) -> None:
    with pytest.raises(UserError, match=r"'mine' cannot be loaded \(UndefinedError: 'nothing_like_it' is undefined\)"):
        own(tmp_path / "t", "doc_to_text: '{{nothing_like_it}}'").validate()
    rows = '{"q": "a", "a": "b", "n": "1"}\n{"q": "a", "a": "b", "n": "x"}\n'
    made = own(tmp_path / "u", "doc_to_text: '{{1 // (n|length - (n == \"x\")|int)}}'", rows)
    with pytest.raises(UserError, match=r"'mine' cannot be applied to its documents \(ZeroDivisionError.*keys of the"):
        list(made.examples(TOKENS))


def test_more_examples_than_there_are_documents_are_refused(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"'mine' cannot be applied to its documents \(.*num_fewshot against their number"
    ):
        list(replace(own(tmp_path / "t"), num_fewshot=5).examples(TOKENS))


def test_more_examples_than_there_are_to_show_are_refused(folder: Path) -> None:
    size = sum(1 for _ in (folder / "choice_train.jsonl").open())
    task(folder, "toy_choice", num_fewshot=size).validate()
    with pytest.raises(UserError, match=rf"num_fewshot={size + 1}: the lm-eval task 'toy_choice' has {size} documents"):
        task(folder, "toy_choice", num_fewshot=size + 1).validate()


def test_stop_strings_are_texts(tmp_path) -> None:
    with pytest.raises(UserError, match="until: 5, and it must be a text or a list of texts"):
        own(tmp_path / "t", "generation_kwargs: {until: 5}").validate()


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path) -> None:
    made = own(tmp_path / "t")
    for name in ("rows.jsonl", "mine.yaml"):
        (tmp_path / "t" / name).rename(tmp_path / name)
        os.mkfifo(tmp_path / "t" / name)
        with pytest.raises(UserError, match=rf"{name} is a pipe"):
            made.validate()
        (tmp_path / "t" / name).unlink()
        (tmp_path / name).rename(tmp_path / "t" / name)
