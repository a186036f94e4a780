"""Where a model comes from: a package that ships its folder (`shipped.py`) or its file (`packaged.py`), a local folder, or
the Hugging Face hub. No torch is imported here.

A hub repository is pinned to one commit. If its `config.json` is in the local cache, that copy decides and no network
is used; otherwise the commit is asked for once. Weights are fetched by `download` only, as safetensors, never as
pickles or code unless asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.disk import hub
from harness.disk.reading import is_folder, user_path
from harness.errors import UserError, nearest
from harness.models import packaged, shipped

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*"]
WEIGHTS = ["*.safetensors"]
CODE = ["*.py"]


@dataclass(frozen=True)
class Source:
    """`folder` for what is local, `repo` (and a revision) for the hub."""

    kind: str  # "shipped", "package", "folder" or "hub"
    name: str  # shown to people
    folder: Path | None = None
    repo: str = ""
    revision: str | None = None

    def metadata(self) -> Path:
        """A local folder that has at least `config.json`; for the hub this may fetch that one small file."""
        return self.folder if self.folder is not None else _hub_metadata(self.repo, self.revision)

    def commit(self) -> str | None:
        """The hub commit, or None for what is local."""
        return None if self.folder is not None else self.metadata().name

    def cached(self) -> Path | None:
        """The local folder if everything is there already."""
        if self.folder is not None:
            return self.folder
        folder = _cached_metadata(self.repo, self.revision)
        return folder if folder is not None and any(folder.glob("*.safetensors")) else None

    def download(self, weights: bool = True, code: bool = False) -> Path:
        """The local folder; from the hub, what is missing is fetched: always the tokenizer and the configuration,
        and the weights and the Python files if asked for."""
        if self.folder is not None:
            return self.folder
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        hub.quick()
        patterns = SMALL_FILES + (WEIGHTS if weights else []) + (CODE if code else [])
        try:
            return Path(snapshot_download(self.repo, revision=self.commit(), allow_patterns=patterns))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            here = _cached_metadata(self.repo, self.revision)  # some clients ask the hub even for what is all there
            if here is not None and (not weights or self.cached() is not None):
                return here
            raise _unreachable(self.repo, error) from error


def locate(path: str, revision: str | None = None) -> Source:
    """The source named `path`. Names of models that come with a package win over a folder of the same name (write `./name`
    for the folder).
    """
    if installed := path if path.startswith(shipped.PREFIX) else shipped.path_of(path):
        source = Source("shipped", shipped.name_of(installed), shipped.folder(installed))
    elif path in packaged.MEMBERS:
        source = Source("package", path, packaged.folder(path))
    elif is_folder(folder := user_path(path)):
        source = Source("folder", folder.resolve().name, folder.resolve())
    elif HUB_ID.fullmatch(path) and not path.startswith("."):
        return Source("hub", path, None, path, revision)
    else:
        raise UserError(
            f"There is no model '{path}': it is no folder, no hub id (owner/name) and no model of a package; "
            f"{nearest(path, [*shipped.names(), *packaged.MEMBERS])}"
        )
    if revision is not None:
        raise UserError(f"Model '{path}' is local, so revision='{revision}' has no meaning; remove it.")
    return source


def _cached_metadata(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _hub_metadata(repo: str, revision: str | None) -> Path:
    cached = _cached_metadata(repo, revision)
    if cached is not None:
        return cached
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    hub.quick()
    try:
        return Path(hf_hub_download(repo, "config.json", revision=revision)).parent
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unreachable(repo, error) from error


def _unreachable(repo: str, error: Exception) -> UserError:
    """Offline, unknown or not allowed: one paragraph with the three ways to get a model."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    why = "it is not in the local cache and the hub cannot be reached"
    if isinstance(error, GatedRepoError):
        why = "its licence must be accepted on the hub first, then log in with `hf auth login`"
    elif isinstance(error, RevisionNotFoundError):
        why = "the hub does not have this revision"
    elif isinstance(error, RepositoryNotFoundError):
        why = "the hub does not have it, or it is private and you are not logged in"
    members = ", ".join(sorted([*shipped.names(), *packaged.MEMBERS]))
    return UserError(
        f"Model '{repo}' cannot be fetched: {why}. Three ways to get a model: model=./FOLDER, a local folder with config.json and "
        f"safetensors (or model.NAME.path=./FOLDER, under the name that it has), model=NAME of one that comes with a package "
        f"({members}), or model={repo} where there is a network."
    )
