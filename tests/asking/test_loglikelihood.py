"""Requests of examples: their token ids, log-likelihoods against an explicit computation, generated texts and their ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.asking import requests as loglikelihood
from harness.asking.decoding import Decoding
from harness.asking.generation import generate
from harness.asking.requests import longest, respond, scores, stop_ids
from harness.attention.attach import attach
from harness.contracts.method import Method
from harness.contracts.question import GenerateUntil, LogLikelihood, OneRequest, Requests, RollingLogLikelihood
from harness.contracts.request_tokens import Misfit, asked, encode, pair, windows
from harness.disk.reading import Entry
from harness.errors import Unsupported, UserError
from methods.cache.snapkv import SnapKV
from methods.patterns.streaming import StreamingMask
from tests.models import small
from tests.models.small import BOS


def example(*requests: OneRequest, contexts: tuple[str, ...] = ()) -> Requests:
    return Requests(requests, contexts)


def choice(continuation: str, context: int = 0) -> LogLikelihood:
    return LogLikelihood(context, continuation)


def writing(until: tuple[str, ...] = (), n: int = 12, context: int = 0) -> GenerateUntil:
    return GenerateUntil(context, until, n)


def text(value: str, max_length: int = 0) -> RollingLogLikelihood:
    return RollingLogLikelihood(value, max_length)


def responses(view: Any, one: Requests, attached: Any = None) -> list[Any]:
    return list(respond(view, [one], attached)[0].value)


def explicit(view: Any, ids: list[int], n: int) -> tuple[float, bool]:
    """Log-likelihood (float64) of the last `n` ids and whether each is the most likely one, a forward for each."""
    total, greedy = 0.0, True
    for t in range(len(ids) - n, len(ids)):
        logits = view.model(input_ids=torch.tensor([ids[:t]])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[ids[t]])
        greedy = greedy and int(logits.argmax()) == ids[t]
    return total, greedy


def letters(value: str) -> list[int]:
    return small.tokenizer()(value, add_special_tokens=False)["input_ids"]


# -- token ids --------------------------------------------------------------------------------------------------------


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation() -> None:
    tokenizer = small.tokenizer()
    assert pair(tokenizer, "ab  ", "cd") == ([BOS, *letters("ab")], letters("  cd"))
    assert pair(tokenizer, "ab", " cd") == ([BOS, *letters("ab")], letters(" cd"))


def test_an_empty_context_is_the_start_token() -> None:
    assert pair(small.tokenizer(), "", "cd") == ([BOS], letters("cd"))
    assert pair(small.tokenizer(), "", "<s>cd") == ([BOS], letters("cd"))


def test_a_text_that_begins_with_the_start_token_gets_no_second_one() -> None:
    assert encode(small.tokenizer(), "<s>ab") == encode(small.tokenizer(), "ab") == [BOS, *letters("ab")]


@pytest.mark.parametrize("n", [1, 4, 5, 8, 9, 23])
def test_windows_predict_every_token_once_and_read_no_more_than_their_size(n: int) -> None:
    ids = list(range(100, 100 + n))
    found = list(windows(ids, 7, 4))
    assert [token for window, k in found for token in window[-k:]] == ids
    assert all(len(window) - 1 <= 4 for window, _ in found)
    assert found[0][0][0] == 7 and all(len(window) == 5 for window, _ in found[1:])
    assert list(windows([], 7, 4)) == []


def test_what_does_not_fit_is_refused_and_never_cut() -> None:
    view = small.view()
    meta = example(choice("b"), contexts=("a" * 20,))
    assert [one.positions for one in asked(view, meta, 21)] == [21]
    with pytest.raises(Misfit, match="request 0 has 21 tokens, but there are 20 positions"):
        asked(view, meta, 20)
    with pytest.raises(Misfit, match="asks for 12 new ones"):
        asked(view, example(writing(), contexts=("a" * 10,)), 22)
    assert all(one.positions <= 8 for one in asked(view, example(text("a" * 30)), 8))


@pytest.mark.parametrize("context, continuation", [("ab", ""), ("", "")])
def test_a_continuation_without_tokens_is_a_misfit(context: str, continuation: str) -> None:
    with pytest.raises(Misfit, match="no token of its own"):
        asked(small.view(), example(choice(continuation), contexts=(context,)))


def test_a_request_of_an_unknown_type_is_refused_where_it_is_read() -> None:
    for row, said in (({"type": "rank"}, "'rank'"), ({"type": "loglikelihood", "context": 1}, "there are 1 contexts")):
        with pytest.raises(UserError, match=said):
            Requests.from_row(Entry({"meta": {"requests": [row], "contexts": ["a"]}}))


# -- log-likelihoods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("most", [1 << 28, 3 * small.VOCAB * 4, 1], ids=["at once", "chunks of 4", "one by one"])
def test_log_likelihoods_equal_the_explicit_computation(
    family: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglikelihood, "LOGITS", most)
    view = small.view(family)
    contexts = ("the river ", "a")
    one = example(choice("stone"), choice("sea", 1), choice(" ", 1), text("many words"), contexts=contexts)
    got = responses(view, one)
    for response, part in zip(got, asked(view, one), strict=True):
        value, greedy = explicit(view, list(part.ids), part.n_scored)
        assert (response if isinstance(response, float) else response[0]) == pytest.approx(value, abs=1e-4)
        assert isinstance(response, float) or response[1] is greedy


def test_the_greedy_continuation_is_known_as_such() -> None:
    view = small.view()
    start = [BOS, *letters("ab")]
    best = generate(view, [start], [1])[0].ids[0]
    written, other = ((chr(c) for c in range(97, 123) if (letters(chr(c)) == [best]) is same) for same in (True, False))
    token = next(written, None) or view.decode([best])
    found = responses(view, example(choice(token), choice(next(other)), contexts=("ab",)))
    assert [greedy for _, greedy in found] == [letters(token) == [best], False]
    if letters(token) == [best]:
        assert found[0][0] > found[1][0]


def test_a_long_text_is_the_sum_of_its_windows() -> None:
    view = small.view()
    parts = asked(view, example(text("abcdefghijk", max_length=4)))
    expected = sum(explicit(view, list(p.ids), p.n_scored)[0] for p in parts)
    assert len(parts) == 3
    assert responses(view, example(text("abcdefghijk", max_length=4))) == [pytest.approx(expected, abs=1e-4)]
    assert responses(view, example(text("abc"), contexts=())) != responses(view, example(text("abd")))


def test_texts_that_differ_in_their_last_token_are_read_once() -> None:
    view, rows = small.view(), []
    view.model.register_forward_pre_hook(lambda m, args, kw: rows.append(kw["input_ids"].shape[0]), with_kwargs=True)
    one = example(*[choice(c) for c in "ABCD"], choice("AB"), contexts=("Q:",))
    together = responses(view, one)
    assert sum(rows) == 2  # "Q:" and "Q:A"
    apart = [responses(view, example(choice(c), contexts=("Q:",)))[0] for c in ("A", "B", "C", "D", "AB")]
    assert [v for v, _ in together] == pytest.approx([v for v, _ in apart], abs=1e-4)


def test_answers_do_not_depend_on_company_or_order() -> None:
    view = small.view()
    examples = [example(choice("x" * (i + 1)), text("y" * i), contexts=("z" * 3 * i,)) for i in range(1, 6)]
    alone = [responses(view, e) for e in examples]
    together = [row.value for row in respond(view, examples[::-1])][::-1]
    for a, b in zip(alone, together, strict=True):
        assert [a[0][0], a[1]] == pytest.approx([b[0][0], b[1]], abs=1e-4)


def test_methods_that_want_equal_lengths_get_them_and_others_are_padded() -> None:
    class Equal(StreamingMask):
        batching = "equal"

    view = small.view()
    widths: list[Any] = []
    view.model.register_forward_pre_hook(lambda m, a, kw: widths.append(kw["attention_mask"]), with_kwargs=True)
    examples = [example(choice("x" * (i % 3 + 2)), contexts=("a" * 40,)) for i in range(6)]
    found = []
    for cls in (StreamingMask, Equal):
        widths.clear()
        with attach(view, cls(sinks=2, recent=14, block_size=8)) as attached:
            found.append([r.value for r in respond(view, examples, attached)])
        assert all(bool(mask.all()) for mask in widths) is (cls is Equal)
    for a, b in zip(*found, strict=True):
        assert a[0][0] == pytest.approx(b[0][0], abs=1e-4)


def test_the_method_is_at_work() -> None:
    view = small.view()
    one = example(choice("stone"), contexts=("a river and a bridge and a " * 4,))
    with attach(view, StreamingMask(sinks=2, recent=14, block_size=8)) as attached:
        changed = responses(view, one, attached)
        assert attached.report()["density"] < 1
    assert changed[0][0] != pytest.approx(responses(view, one)[0][0], abs=1e-3)


def test_an_impossible_token_is_a_finite_number() -> None:
    class Never(Method):
        def logits(self, ctx: Any, z: Any) -> Any:
            z = z.clone()
            z[..., letters("b")[0]] = float("-inf")
            return z

    view = small.view()
    with attach(view, Never()) as attached:
        found = responses(view, example(choice("b"), text("ab"), choice("c"), contexts=("a",)), attached)
    assert found[0] == [loglikelihood.IMPOSSIBLE, False] and found[1] == loglikelihood.IMPOSSIBLE
    assert -1000 < found[2][0] < 0


# -- generated texts --------------------------------------------------------------------------------------------------


def test_a_text_ends_before_its_first_stop_string() -> None:
    view = small.view()
    whole = responses(view, example(writing(), contexts=("abc",)))[0]
    assert whole == generate(view, [encode(view.tokenizer, "abc")], [12])[0].text and len(whole) > 6
    for end in (whole[3], whole[3:5]):
        cut = responses(view, example(writing((end, "never")), contexts=("abc",)))[0]
        assert cut == whole[: whole.index(end)]


def test_a_stop_string_of_one_token_ends_the_computation() -> None:
    view = small.view()
    whole = respond(view, [example(writing(), contexts=("abc",))])[0]
    end = whole.value[0][3]
    short = respond(view, [example(writing((end,)), contexts=("abc",))])[0]
    assert (whole.n_new, whole.finish) == (12, "length")
    ids = generate(view, [encode(view.tokenizer, "abc")], [12])[0].ids
    assert short.n_new == ids.index(letters(end)[0]) + 1 < 12 and short.finish == "stop"
    assert stop_ids(view, (end,)) == letters(end) and stop_ids(view, ()) == []
    assert stop_ids(view, ("</s>",)) == [small.EOS]


def test_requests_with_different_ends_and_limits_are_answered_each_by_its_own() -> None:
    view = small.view()
    parts = [writing(("q",), 3), writing(("r",), 7, 1), writing((), 5, 1)]
    one = example(*parts, choice("x"), contexts=("abc", "de"))
    found = responses(view, one)
    alone = [responses(view, example(part, contexts=("abc", "de")))[0] for part in (*parts, choice("x"))]
    assert found[:3] == alone[:3] and found[3][0] == pytest.approx(alone[3][0], abs=1e-4)


def test_counts_cover_all_requests() -> None:
    view = small.view()
    row = respond(view, [example(choice("xy"), writing((), 5), contexts=("abc",))])[0]
    assert (row.n_prompt, row.longest, row.n_new) == (5 + 4, 5, 5) and row.usage["kv_bytes_logical"] > 0
    assert "kv_bytes_logical" not in respond(view, [example(choice("xy"), contexts=("abc",))])[0].usage


def test_only_greedy_texts_are_generated() -> None:
    view = small.view()
    with pytest.raises(UserError, match=r"decoding\.search=sample"):
        respond(view, [example(writing(), contexts=("a",))], decoding=Decoding("sample"))
    assert respond(view, [example(choice("b"), contexts=("a",))], decoding=Decoding("sample"))


def test_a_method_that_rewrites_prompts_is_refused() -> None:
    class Rewriting(Method):
        name = "rewriting"

        def transform(self, view: Any, draft: Any, ask: Any) -> Any:
            return draft

    view = small.view()
    with attach(view, Rewriting()) as attached, pytest.raises(Unsupported, match="'rewriting' rewrites the prompt"):
        respond(view, [example(choice("b"), contexts=("a",))], attached)


# -- the proof --------------------------------------------------------------------------------------------------------


def test_one_likelihood_is_enough_to_ask_for_proof_in_the_prompt() -> None:
    likelihood, generated = example(choice("b"), contexts=("a",)), example(writing(), contexts=("a",))
    assert not scores(generated)
    assert scores(likelihood) and scores(example(text("a")))


def test_the_longest_request_stands_for_an_example() -> None:
    view = small.view()
    assert len(longest(view, example(choice("xyz"), choice("x"), contexts=("ab",)))) == 5
    assert len(longest(view, example(writing(), contexts=("ab",)))) == 3
    assert len(longest(view, example(text("")))) == 1


def test_a_method_that_acts_after_the_prompt_changes_generated_texts() -> None:
    view = small.view()
    one = example(writing((), 12), contexts=("a river and a bridge and a " * 4,))
    with attach(view, SnapKV(window=4, capacity=8, kernel=3)) as attached:
        changed = responses(view, one, attached)
    assert changed != responses(view, one)
