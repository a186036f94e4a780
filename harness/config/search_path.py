"""Where Hydra finds option files: in heed's `configs/`, then in the folders of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from harness.config import plugins


class PluginFolders(SearchPathPlugin):
    """Adds the plug-ins. Presets to which they have sections stand before heed's own, since they hold all of those."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for plugin in plugins.found():
            search_path.append(plugin.name, f"file://{plugin.folder}")
        for name, file in plugins.files("preset").items():
            if sections := plugins.preset_sections(name):
                ConfigStore.instance().store(group="preset", name=name, node=plugins.read(file) | sections)
                search_path.prepend("schema", "structured://", anchor="main")


@contextmanager
def started() -> Iterator[None]:
    """Hydra, reading these folders; whatever it held before is forgotten."""
    GlobalHydra.instance().clear()
    Plugins.instance().register(PluginFolders)
    with initialize_config_dir(str(plugins.CONFIGS), job_name="heed", version_base="1.3"):
        yield
