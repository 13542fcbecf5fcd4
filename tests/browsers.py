"""A browser for tests: Chromium without a window, driven as a person would."""

from __future__ import annotations

import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services import not_there

#: What is the browser's own doing, and no part of a test: pictures, updates, accounts, other protocols.
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """Start Chromium with an empty profile in a folder, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        not_there("chromium", f"no {'chromedriver' if browser else 'chromium'} on the path")
    options = ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    # With the driver's place given, Selenium looks for none to download.
    chrome = Chrome(options=options, service=ChromeService(driver))
    try:
        chrome.set_page_load_timeout(30)
        yield chrome
    finally:
        chrome.quit()


class Person:
    """Somebody at the browser: goes to pages, reads, clicks, and takes pictures."""

    def __init__(self, chrome: Any, site: str, album: Path) -> None:
        self.chrome = chrome
        self._site = site
        self._album = album

    def go(self, path: str) -> None:
        """Open a page of the site."""
        self.chrome.get(self._site + path)

    def see(self, selector: str) -> list[Any]:
        """What there is on the page, by a CSS selector."""
        return list(self.chrome.find_elements("css selector", selector))

    def click(self, words: str) -> None:
        """Follow the link that says just this."""
        self._leave(self.chrome.find_element("link text", words))

    def press(self, selector: str) -> None:
        """Press a button that leads to another page."""
        self._leave(self.chrome.find_element("css selector", selector))

    def tick(self, selector: str) -> None:
        """Choose a box."""
        self.chrome.find_element("css selector", selector).click()

    def fill(self, selector: str, words: str) -> None:
        """Write into a field."""
        self.chrome.find_element("css selector", selector).send_keys(words)

    def says(self) -> str:
        """What can be read on the page."""
        return " ".join(self.chrome.find_element("css selector", "body").text.split())

    def ask(self, expression: str, *given: Any) -> Any:
        """What the page makes of an expression in JavaScript; `arguments` are what is given."""
        return self.chrome.execute_script(f"return {expression}", *given)

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page."""
        height = self.ask("document.documentElement.scrollHeight")
        width = self.ask("window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        found = self.chrome.execute_cdp_cmd("Page.captureScreenshot", options)
        (self._album / f"{name}.png").write_bytes(b64decode(found["data"]))

    def prefer(self, scheme: str) -> None:
        """Say to all pages whether they are to be light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def hold(self, width: int, height: int) -> None:
        """Look through a window of another size, such as a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def forget(self) -> None:
        """Leave the browser as another person may have it."""
        self.chrome.delete_all_cookies()
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def complaints(self) -> list[str]:
        """What the browser has complained of since it was asked last: scripts, policies, what did not load."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def _leave(self, element: Any) -> None:
        from selenium.webdriver.support.expected_conditions import staleness_of
        from selenium.webdriver.support.wait import WebDriverWait

        page = self.chrome.find_element("css selector", "html")
        element.click()
        WebDriverWait(self.chrome, 20, poll_frequency=0.02).until(staleness_of(page))
