"""`heed doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from harness.terminal.printing import Terminal

EXTRAS = {
    "wandb": "tracking on Weights & Biases",
    "nltk": "a sentence splitter for tasks that follow it to the letter (punkt data needed too)",
    "wonderwords": "word lists for tasks that follow theirs to the letter",
    "datasets": "data sets from a hub",
    "kvpress": "its presses as methods (method=kvpress)",
}
FLAGS = {"kvpress": "--no-deps "}  # its metadata refuses the transformers that its presses run on
Row = tuple[str, str, str]  # what, state (ok | missing | off), detail


def show(deep: bool = False) -> int:
    """Print a line per capability. Exit code 1 only if heed itself cannot run."""
    table = Table(title="heed doctor", title_justify="left")
    for column in ("what", "state", "detail"):
        table.add_column(column, overflow="fold")
    rows = [*_base(), *_device(), *_flex(deep), *_extras(), *_login(), *_shipped(), *_packaged(), *_plugins()]
    colour = {"ok": "green", "missing": "red", "off": "yellow"}
    for what, state, detail in rows:
        table.add_row(what, Text(state, style=colour[state]), detail)
    Terminal().print(table)
    return int(any(state == "missing" for _, state, _ in rows))


def _base() -> Iterator[Row]:
    yield "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in ("torch", "transformers", "hydra-core"):
        try:
            yield package, "ok", importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "missing", f"pip install -c constraints.txt {package}"


def _device() -> Iterator[Row]:
    import torch

    yield (
        "cpu",
        "ok",
        f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    )
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(i)
            yield (
                f"cuda:{i}",
                "ok",
                f"{card.name}, {card.total_memory / 2**30:.0f} GiB, capability {card.major}.{card.minor}",
            )
    else:
        yield "cuda", "off", "no GPU visible to torch: models run on the CPU, and every speed says so"


def _flex(deep: bool) -> Iterator[Row]:
    import torch

    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not torch.cuda.is_available() and not compiler:
        yield "compiled FlexAttention", "off", "install a C++ compiler (g++); block patterns use gather until then"
    elif not deep:
        yield "compiled FlexAttention", "ok", "a compiler is here; `heed doctor --deep` compiles it once to be sure"
    else:
        yield "compiled FlexAttention", *_compile_flex()


def _compile_flex() -> tuple[str, str]:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    q = torch.randn(1, 1, 128, 16, device="cuda" if torch.cuda.is_available() else "cpu")
    try:
        out = torch.compile(flex_attention)(q, q, q)
    except Exception as error:  # whatever the compiler stack raises is the answer the user asked for
        return "off", f"does not compile: {type(error).__name__}: {str(error).splitlines()[0][:160]}"
    want = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    return "ok", f"compiles, differs from SDPA by {(out - want).abs().max().item():.1e}"


def _extras() -> Iterator[Row]:
    for package, use in EXTRAS.items():
        found = importlib.util.find_spec(package) is not None
        how = f"{use}: pip install {FLAGS.get(package, '')}-c constraints.txt {package}"
        yield package, "ok" if found else "off", use if found else how


def _login() -> Iterator[Row]:
    from harness.tracking.wandb import resolve_mode

    if resolve_mode("auto") == "online":
        yield "W&B login", "ok", "tracking=auto writes online"
    else:
        yield "W&B login", "off", "tracking=auto is disabled until `wandb login`; tracking=offline works without"


def _shipped() -> Iterator[Row]:
    from harness.errors import UserError
    from harness.models import shipped
    from harness.models.checkpoint import weight_files
    from harness.models.source import locate

    for name in shipped.names():
        try:
            folder = locate(name).metadata()
            weight_files(folder)
            yield f"model {name}", "ok", str(folder)
        except UserError as error:
            yield f"model {name}", "missing", str(error)


def _plugins() -> Iterator[Row]:
    from harness.config import plugins

    for plugin in plugins.found():
        yield f"plug-in {plugin}", "ok", str(plugin.folder)


def _packaged() -> Iterator[Row]:
    from harness.models import packaged

    for name in packaged.MEMBERS:
        what, how = f"model {name}", packaged.missing(name)
        if how:
            yield what, "off", f"a real pretrained model without a hub: {how}"
        elif packaged.ready(name):
            yield what, "ok", str(packaged.place(name))
        else:
            yield what, "ok", f"its first run turns {packaged.shipped(name)} into {packaged.place(name)}"
