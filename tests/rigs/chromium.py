"""A real headless Chromium with a profile of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

T = TypeVar("T")

DEADLINE = 30.0

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # its own process sandbox; CI runs as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # Names for which browsers trust plain HTTP no more than on a facility's network.
    "--host-resolver-rules=MAP *.example.org 127.0.0.1",
    "--disable-features=HttpsUpgrades",
    "--window-size=1400,1000",
)


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A fresh browser. Without Chromium and its driver the test fails, and says what to install."""
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.fail(
            "The browser tests need Chromium: "
            "apt-get install --no-install-recommends chromium chromium-driver fonts-dejavu-core",
            pytrace=False,
        )
    with tempfile.TemporaryDirectory(prefix="penstock-chromium-", ignore_cleanup_errors=True) as at:
        options = Options()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={at}/profile", f"--crash-dumps-dir={at}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # A driver path of our own keeps selenium from looking for one on the net.
        browser = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            browser.set_page_load_timeout(DEADLINE)
            browser.set_script_timeout(DEADLINE)
            yield browser
        finally:
            browser.quit()


def until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true value of ``condition``; fails with ``what`` when there is none in time."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:.0f} s: {what} (last: {value!r})")
        time.sleep(0.05)


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the console of the browser has shown as errors since the last call.

    Without the icon that browsers look for at the root of every site, and the remark that plain
    HTTP has no ``Cross-Origin-Opener-Policy``.
    """
    lines = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    known = ("/favicon.ico ", "Cross-Origin-Opener-Policy header has been ignored")
    return [line for line in lines if not any(each in line for each in known)]
