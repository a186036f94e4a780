"""From a task of lm-evaluation-harness to examples: one for each document, with its requests as plain data.

The library itself builds the requests (prompts, few-shot examples, chat template); its request cache stays off. Few-shot
examples are drawn one document after the other from one generator, so a document's prompt depends on `fewshot_seed` and
its place in the data, and asking for more documents changes no earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from harness.contracts.example import Example, Skipped
from harness.contracts.options import Within, fits, outside
from harness.contracts.question import GenerateUntil, LogLikelihood, OneRequest, Requests, RollingLogLikelihood
from harness.contracts.request_tokens import Misfit, asked
from harness.contracts.tokens import Tokens
from harness.errors import UserError
from tasks.lm_eval.library import applied, library_seeds, quiet

MAX_NEW_TOKENS = 256  # lm_eval.defaults.DEFAULT_MAX_GEN_TOKS
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # in the library's order
HARMLESS = {"temperature", "top_p", "top_k", "do_sample"}  # without effect on a greedy search
INFINITE = 1e30  # what records hold in place of an infinity
KINDS = tuple(one.type for one in (LogLikelihood, RollingLogLikelihood, GenerateUntil))


@dataclass(frozen=True)
class Asking:
    """How documents become prompts."""

    limit: int | None = None  # documents of each task
    fewshot_seed: int = 1234
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    max_length: int | None = None


def examples(name: str, task: Any, asking: Asking, tokens: Tokens) -> Iterator[Example | Skipped]:
    """One example for each document of a task, in the order of the data."""
    sizes = [n for n in (asking.max_length, tokens.max_positions) if n]
    for doc_id, instances in _instances(name, task, asking, tokens).items():
        with applied(name):
            question, meta = _question(name, instances, asking.max_length), _meta(name, task, doc_id, instances[0].doc)
        key = f"{name}/{doc_id}"
        try:
            asked(tokens, question, min(sizes, default=None))
        except Misfit as error:
            yield Skipped(key, str(error), {"task": name, "doc_id": doc_id})
            continue
        yield Example(
            id=key,
            question=question,
            references=(meta["target"],),
            cluster=key,
            task="lm_eval",
            split=name,
            meta=meta,
        )


def _instances(name: str, task: Any, asking: Asking, tokens: Tokens) -> dict[int, list[Any]]:
    """The library's requests by document, in the order in which their responses are expected."""
    template = renderer(tokens) if asking.apply_chat_template else None
    task.set_fewshot_seed(seed=asking.fewshot_seed)
    with applied(name), library_seeds(), quiet():
        task.build_all_requests(
            limit=asking.limit,
            rank=0,
            world_size=1,
            cache_requests=False,
            rewrite_requests_cache=False,
            system_instruction=asking.system_instruction,
            apply_chat_template=asking.apply_chat_template,
            fewshot_as_multiturn=asking.fewshot_as_multiturn,
            chat_template=template,
            tokenizer_name=tokens.name if template else "",
        )
    found: dict[int, list[Any]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    return {key: sorted(of_doc, key=lambda x: x.idx) for key, of_doc in found.items()}


def renderer(tokens: Any) -> Callable[..., str]:
    """The chat template as the library calls it; a template that knows no system message is asked without one."""
    template = tokens.chat_template
    if template is None:
        raise UserError(
            f"task.lm_eval.apply_chat_template=true, but the tokenizer of '{tokens.name}' has no chat template; leave it out."
        )

    def render(history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        try:
            return str(template.render(history, go_on=not add_generation_prompt))
        except UserError:
            rest = [m for m in history if m["role"] != "system"]
            return str(template.render(rest, go_on=not add_generation_prompt))

    return render


def _meta(name: str, task: Any, doc_id: int, doc: Any) -> dict[str, Any]:
    return {"task": name, "doc_id": doc_id, "doc": plain(doc), "target": str(task.doc_to_target(doc))}


def _question(name: str, instances: Sequence[Any], max_length: int | None) -> Requests:
    contexts: dict[str, int] = {}
    requests = tuple(_request(name, instance, contexts, max_length) for instance in instances)
    return Requests(requests, tuple(contexts))


def _request(name: str, instance: Any, contexts: dict[str, int], max_length: int | None) -> OneRequest:
    """One request in our own words. `given` keeps the library's arguments where ours say less."""
    kind, args = instance.request_type, instance.args
    if kind not in KINDS:
        raise UserError(f"The lm-eval task '{name}' makes requests of the kind '{kind}'; known are {', '.join(KINDS)}.")
    if kind == RollingLogLikelihood.type:
        return RollingLogLikelihood(args[0], max_length or 0)
    context = contexts.setdefault(args[0], len(contexts))
    if kind == LogLikelihood.type:
        return LogLikelihood(context, args[1])
    until, limit = generation(name, args[1])
    return GenerateUntil(context, tuple(until), limit, plain(args[1]))


NEW_TOKENS = Annotated[int, Within(1, 2**24)]
SAID = "Correct task.lm_eval.gen_kwargs={...}, or the generation_kwargs of the task's own file."


def generation(name: str, given: Mapping[str, Any]) -> tuple[list[str], int]:
    """Stop strings and most new tokens of a `generation_kwargs`; `UserError` for what a greedy search cannot honour."""
    own = dict(given)
    until = own.pop("until", None) or []
    until = [until] if isinstance(until, str) else until
    lengths = {key: n for key in LENGTHS if (n := own.pop(key, None)) is not None}
    for key, value, hint in (("until", until, list[str]), *((k, n, NEW_TOKENS) for k, n in lengths.items())):
        if not fits(value, hint) or outside(value, hint) is not None:
            kind = "a text or a list of texts" if key == "until" else "a whole number of tokens from 1"
            raise UserError(f"The lm-eval task '{name}' generates with {key}: {value}, and it must be {kind}. {SAID}")
    limit = next(iter(lengths.values()), MAX_NEW_TOKENS)
    sampling, temperature = own.get("do_sample"), own.get("temperature") or 0
    if not fits(temperature, float):
        raise UserError(
            f"The lm-eval task '{name}' generates with temperature: {temperature}, which is no number. {SAID}"
        )
    if sampling or (sampling is None and temperature > 0):
        raise UserError(
            f"The lm-eval task '{name}' asks for sampling ({_said(own)}), and heed answers its requests greedily. Run it so "
            "with task.lm_eval.gen_kwargs={do_sample: false}: its numbers are then not those of the original."
        )
    own = {k: v for k, v in own.items() if k not in HARMLESS and not (k == "num_beams" and v == 1)}
    if own:
        raise UserError(f"The lm-eval task '{name}' generates with {_said(own)}, which heed cannot honour.")
    return until, limit


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def check_fewshot(name: str, task: Any) -> None:
    """`UserError` where a prompt would show more examples than there are beside the document that is asked about."""
    shots = int(task.get_config("num_fewshot") or 0)
    if not shots:
        return
    pool = len(task.fewshot_docs() or ())
    pool -= task.fewshot_cfg.split == task.get_config("test_split")  # then the document itself is drawn and taken out
    if shots > pool:
        raise UserError(
            f"task.lm_eval.num_fewshot={shots}: the lm-eval task '{name}' has {max(pool, 0)} documents to show before a question. "
            f"Give task.lm_eval.num_fewshot={max(pool, 0)} or less."
        )


def about_tokens(name: str, task: Any, docs: Sequence[Any], limit: int | None) -> tuple[int, int]:
    """(documents, tokens): an estimate from the first documents, four characters to a token, without building prompts."""
    n = len(docs) if limit is None else min(limit, len(docs))
    first = [docs[i] for i in range(min(n, 16))]
    if not first:
        return 0, 0
    with applied(name):
        return n, int(n * _tokens_of(name, task, first))


def _tokens_of(name: str, task: Any, first: Sequence[Any]) -> float:
    """Tokens of one document, on average."""
    words = sum(len(str(task.doc_to_text(doc))) + len(str(task.doc_to_target(doc))) for doc in first) / len(first) / 4
    shots, asked_for = int(task.get_config("num_fewshot") or 0), 1
    new = 0
    if task.OUTPUT_TYPE == "multiple_choice":
        asked_for = len(task.doc_to_choice(first[0]))
    elif task.OUTPUT_TYPE == "generate_until":
        new = generation(name, task.get_config("generation_kwargs") or {})[1]
    return words * (1 + shots) * asked_for + new


def plain(value: Any) -> Any:
    """A value as JSON can hold it: what JSON does not know becomes text, as in the library's own samples; NaN becomes
    null and infinities become 1e30 (`restored` undoes both).
    """
    return json.loads(json.dumps(value, default=_plain), parse_constant=CONSTANTS.__getitem__)


CONSTANTS = {"NaN": None, "Infinity": INFINITE, "-Infinity": -INFINITE}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)
