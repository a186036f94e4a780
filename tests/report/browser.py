"""A real headless Chromium for tests of the page. It is needed: without one the tests fail and say what to install."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip
INSTALL = "install it (Debian: apt-get install chromium chromium-driver; and pip install selenium)"


@contextmanager
def chromium(width: int = 1280, height: int = 900, *flags: str) -> Iterator[Any]:
    """A browser with a profile of its own; browser and driver are gone afterwards."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.fail(f"the page is tested in Chromium, and chromium or chromedriver is missing: {INSTALL}")
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail(f"the page is tested through selenium, which is missing: {INSTALL}")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield window
        finally:
            window.quit()


def open_page(window: Any, file: Path) -> float:
    """Open the file; returns the milliseconds from the start of loading until the page answers."""
    from selenium.webdriver.support.ui import WebDriverWait

    window.get(file.absolute().as_uri())
    WebDriverWait(window, 60).until(lambda w: w.execute_script("return document.documentElement.dataset.ready"))
    return float(window.execute_script("return Number(document.documentElement.dataset.ready)"))


def emulate(window: Any, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
    """A screen of this size, in light or dark mode."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def errors(window: Any) -> list[str]:
    """What the console holds since it was last asked."""
    return [entry["message"] for entry in window.get_log("browser")]
