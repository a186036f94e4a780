"""The HTML file: one template, one style, one script, and data that only the script reads.

Its content security policy lets nothing run or load but these two, by their digests, and no string become markup
(`require-trusted-types-for`). The script writes text nodes only. So an answer that holds a script is shown, and that is all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.report.board import Board
from harness.report.markdown import counted
from harness.report.page_data import dumps, pages

SCRIPTS = ("dom.js", "table.js", "charts.js", "closer.js", "details.js", "main.js")


def render(board: Board, parts: Mapping[str, Any] | None = None) -> str:
    """The whole file. `parts`: of `data.pages`, if they were made before."""
    style = asset("style.css")
    script = "\n".join(asset(name) for name in SCRIPTS)
    embedded = {name: Markup(dumps(part)) for name, part in (parts or pages(board)).items()}
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(asset("page.html"))
    return template.render(
        version=__version__,
        summary=counted(board.counts),
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        parts=embedded,
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script."""
    return (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def digest(text: str) -> str:
    """What a policy calls an inline element's content."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def asset(name: str) -> str:
    """A file of `assets/`. Nothing in it may end the element that will hold it."""
    text = resources.files("harness.report").joinpath("assets", name).read_text(encoding="utf-8")
    if name.endswith((".js", ".css")) and ("</" in text or "<!--" in text):
        raise ValueError(f"{name} holds '</' or '<!--', which would end its element")
    return text
