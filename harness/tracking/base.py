"""Whether to track, and what was tracked already. Importing this imports no tracker and opens no connection."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from harness.disk.whole import read_json, write_json
from harness.errors import UserError, nearest
from harness.records.cells import CellRecord

MODES = ("auto", "disabled", "offline", "online")
MEMORY = "tracking.json"  # in the cell's folder


def resolve_mode(mode: str = "auto", env: Mapping[str, str] | None = None) -> str:
    """`disabled`, `offline` or `online`. `auto`: WANDB_MODE if set, else online when logged in, else disabled."""
    env = os.environ if env is None else env
    if mode not in MODES:
        raise UserError(f"tracking.mode is '{mode}': {nearest(mode, MODES)}")
    if mode != "auto":
        return mode
    asked = env.get("WANDB_MODE", "").lower()
    if asked:
        return asked if asked in ("offline", "online") else "disabled"
    return "online" if logged_in(env) else "disabled"


def logged_in(env: Mapping[str, str]) -> bool:
    """True if the tracker would find a key in the environment or, for its host, in the netrc file."""
    if env.get("WANDB_API_KEY"):
        return True
    host = urlparse(env.get("WANDB_BASE_URL", "")).hostname or "api.wandb.ai"
    home = Path(env.get("HOME") or Path.home())
    files = [Path(env["NETRC"])] if env.get("NETRC") else [home / ".netrc", home / "_netrc"]
    return any(_knows(file, host) for file in files)


def _knows(file: Path, host: str) -> bool:
    try:
        return host in netrc.netrc(str(file)).hosts
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False


def recall(cell: CellRecord) -> dict[str, Any]:
    """What is remembered about earlier writing: {"group": ..., "written": {"<mode>/<project>": digest}}."""
    file = cell.path / MEMORY
    try:
        stored = read_json(file) if file.exists() else {}
    except (OSError, UserError):
        stored = {}  # writing again does no harm
    written = stored.get("written")
    return {"group": stored.get("group"), "written": written if isinstance(written, dict) else {}}


def remember(cell: CellRecord, memory: dict[str, Any]) -> None:
    """Store what `recall` returns. `UserError` if the disk refuses."""
    write_json(cell.path / MEMORY, memory)
