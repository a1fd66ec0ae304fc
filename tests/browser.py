"""A headless Chromium for tests of pages; they are skipped where there is none."""

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
QUIET = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")


@contextlib.contextmanager
def opened_browser(address, profile):
    """A browser at an address, with its console's messages kept; `profile` is a new folder."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for each in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", *QUIET):
        options.add_argument(f"--{each}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With the driver's path selenium looks for, and downloads, nothing.
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        browser.get(address)
        yield browser
    finally:
        browser.quit()
