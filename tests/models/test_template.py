"""Chat templates are programs from outside: the same prompt every day, and an end with a reason for every way to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.models.load import ModelSpec
from harness.models.tokens import TextTokens
from harness.running.examples import cache_key
from tasks.passkey import Passkey
from tasks.recall import Recall
from tasks.ruler import Ruler
from tests.models import small

DATED = "Today is {{ strftime_now('%d %b %Y') }}{{ ' or so' if strftime_now is defined }}.\n" + small.CHAT
LLAMA = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%-d %B %Y') %}{% endif %}{{ date_string }}"
)


def tokens(template: str, **settings: str) -> TextTokens:
    tokenizer = small.tokenizer(chat=True)
    tokenizer.chat_template = template
    return TextTokens(tokenizer, name="m", **settings)


def folder_with(template: str, folder: Path) -> Path:
    small.save(folder, chat=True)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_template_that_asks_for_the_date_is_told_a_fixed_one() -> None:
    assert tokens(DATED).prompt_text("hi").startswith("Today is 26 Jul 2024 or so.\n<s><user>hi")
    assert tokens(LLAMA + small.CHAT).prompt_text("hi").startswith("26 July 2024<s>")
    assert tokens(DATED, template_date="2026-01-02").prompt_text("hi").startswith("Today is 02 Jan 2026")
    assert tokens(DATED).date == "2024-07-26" and tokens(small.CHAT).date is None


def test_the_date_belongs_to_the_identity_where_the_template_asks_for_it(tmp_path: Path) -> None:
    def identity(folder: Path, **settings: str) -> dict[str, object]:
        return ModelSpec(path=str(folder), device="cpu", **settings).identity()  # type: ignore[arg-type]

    asks, plain = folder_with(DATED, tmp_path / "asks"), folder_with(small.CHAT, tmp_path / "plain")
    assert identity(asks)["template_date"] == "2024-07-26"
    assert identity(asks) != identity(asks, template_date="2025-01-01")
    assert "template_date" not in identity(plain)
    assert identity(plain) == identity(plain, template_date="2025-01-01")
    view = ModelSpec(path=str(asks), device="cpu", template_date="2025-01-01").load()
    assert view.tokens.prompt_text("hi").startswith("Today is 01 Jan 2025")
    task = Passkey(lengths=(256,), trials=1)
    keys = {cache_key(task, tokens(DATED, template_date=day)) for day in ("2024-07-26", "2025-01-01")}
    assert len(keys) == 2


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"template_date='26\.7\.2024'.*YYYY-MM-DD"):
        ModelSpec(path=str(small.save(tmp_path)), template_date="26.7.2024").validate()


BAD = {
    "refuses": ("{{ raise_exception('Roles must alternate!') }}", "roles user: 'Roles must alternate!'"),
    "mistake": ("{% for m in messages %}{{ m.content }}", r"'Unexpected end of template.*line 1"),
    "type": ("{{ messages[0].content + 3 }}", "can only concatenate"),
    "endless": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "stopped after 1000000 steps",
    ),
    "recursive": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "deaf": ("Hello!", "does not show what the user says"),
}


@pytest.mark.parametrize(("template", "message"), BAD.values(), ids=BAD)
def test_every_way_to_fail_ends_and_names_the_reason(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tokens(template).prompt_ids("hi")
    assert "model 'm'" in str(caught.value) and "template=none" in str(caught.value)


@pytest.mark.parametrize(
    "task",
    [
        Passkey(lengths=(256,), trials=1),
        Recall(lengths=(256,), samples=1),
        Ruler(lengths=(512,), samples=1, tasks=("niah_single_1",)),
    ],
    ids=["passkey", "recall", "ruler"],
)
def test_filling_a_prompt_ends_where_the_template_shows_a_part_of_it(task: Any) -> None:
    with pytest.raises(UserError, match=r"tokens cannot be filled.*template=none"):
        list(task.examples(tokens("{{ messages[0].content[:100] }}")))


def test_what_the_tokenizer_puts_before_a_text_does_not_depend_on_the_template() -> None:
    assert tokens(small.CHAT).start_ids == (small.BOS,)
    assert TextTokens(small.tokenizer(closing=True), name="t").start_ids == (small.BOS,)
    bare = small.tokenizer()
    bare.backend_tokenizer.post_processor = None
    assert TextTokens(bare, name="t").start_ids == ()
