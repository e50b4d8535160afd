"""Pages in a headless Chromium that reaches no other machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

WIDTHS = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1280, 900)}


class Tab:
    """A page in the browser: a file, or an address of this machine."""

    def __init__(
        self, driver: Any, page: Path | str, size: tuple[int, int], dark: bool = False
    ) -> None:
        self.driver = driver
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get_log("browser")
        driver.get(page.as_uri() if isinstance(page, Path) else page)
        self.wait(lambda: self.js("return document.documentElement.dataset.ready"))

    def wait(self, true: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 30, 0.05).until(lambda _: true())

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        code = (
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())"
        )
        found: list[str] = self.js(code, css)
        return found

    def choose(self, select: str, text: str) -> None:
        Select(self.one(select)).select_by_visible_text(text)

    def press(self, element: Any) -> None:
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def every_task(self) -> None:
        """All rows of the table of tasks: none folded, none left out."""
        self.press(self.one("#fold"))
        self.press(self.one("#unmet"))
        if self.one("#more").is_displayed():
            self.press(self.one("#more"))

    def column(self, name: str) -> list[str]:
        place = self.texts("#table thead th").index(name) + 1
        return self.texts(f"#table tbody td:nth-child({place})")

    def point(self) -> str:
        return " ".join(self.texts("#point"))

    def mark(self, number: int) -> Any:
        """One of the chart's symbols."""
        found = self.all("#chart .mark-symbol path[aria-label]")[number]
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)
        return found


PROGRAMS = ("chromium", "chromedriver")


def there() -> bool:
    """Whether its programs are (Debian: chromium, chromium-driver)."""
    return all(map(shutil.which, PROGRAMS))


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Headless, and told that there is no other machine than this."""
    browser, driver = map(shutil.which, PROGRAMS)
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser)
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield made
    finally:
        made.quit()
