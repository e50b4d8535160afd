"""The page of `diffaccel compare` in a browser: what a person does there is what is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from diffaccel.evaluation.records import Baseline
from diffaccel.experiment.grid import Configuration
from diffaccel.report import blind
from diffaccel.report.blind.records import journal_of
from diffaccel.report.blind.server import Server
from diffaccel.store.jsonio import read_record
from tests.browser.conftest import HOSTILE, write_configuration
from tests.browser.tab import WIDTHS, Tab

pytestmark = pytest.mark.browser

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
CHOICE = blind.Choice(accelerators=[("deepcache",)])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of six cells, of whose candidates four images each are kept."""
    folder = tmp_path_factory.mktemp("eyes") / "cpu"
    write_configuration(folder, CONFIGURATION, 4)
    return folder


@pytest.fixture
def served(measured: Path, tmp_path: Path) -> Iterator[Server]:
    answers = blind.answers_in(measured, CHOICE)
    with blind.serve(blind.Session(answers, tmp_path, "me", 1)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def opened(driver: Any, server: Server, width: str = "desktop", dark: bool = False) -> Tab:
    tab = Tab(driver, server.address, WIDTHS[width], dark)
    tab.wait(lambda: tab.one("#same").is_enabled())
    return tab


def after(tab: Tab, does: Any) -> None:
    """Does something that brings another pair, and waits for that."""
    before = tab.js("return document.documentElement.dataset.ready")
    does()
    tab.wait(lambda: tab.js("return document.documentElement.dataset.ready") != before)


def press(tab: Tab, key: str) -> None:
    after(tab, lambda: ActionChains(tab.driver).send_keys(key).perform())


def test_clicks_and_keys_are_kept_and_undone(
    chromium: Any, served: Server, measured: Path, tmp_path: Path
) -> None:
    tab, session = opened(chromium, served), served.session
    count = len(session.left)
    firsts = []
    for does in (
        lambda: after(tab, lambda: tab.press(tab.one("#a"))),
        lambda: press(tab, Keys.ARROW_RIGHT),
        lambda: press(tab, Keys.ARROW_DOWN),
        lambda: press(tab, Keys.ARROW_LEFT),
    ):
        shown = session.shown()
        assert shown.text in tab.one("#prompt").text
        firsts.append(shown.first)
        does()
    press(tab, Keys.BACKSPACE)
    assert f"3 of {count} pairs judged" in tab.one("#count").text
    after(tab, lambda: tab.press(tab.one("#undo")))
    baseline = read_record(Baseline, measured / "baseline" / f"{CONFIGURATION.slug}.json")
    said = {"a": {"accelerated": "better", "baseline": "worse"}}
    said["b"] = {"accelerated": "worse", "baseline": "better"}
    expected = [said["a"][firsts[0]], said["b"][firsts[1]], "same", said["a"][firsts[3]]]
    assert [row.verdict for row in journal_of(tmp_path, baseline).rows()] == [
        *expected,
        "undone",
        "undone",
    ]
    assert {row.judge for row in journal_of(tmp_path, baseline).rows()} == {"me"}
    tab.driver.refresh()
    tab.wait(lambda: tab.one("#same").is_enabled())
    assert f"2 of {count} pairs judged" in tab.one("#count").text
    assert tab.js("return window.hurt") is None, "a prompt became code"
    assert tab.driver.get_log("browser") == []


def test_to_the_end(chromium: Any, served: Server) -> None:
    tab = opened(chromium, served)
    texts = set()
    while not tab.one("#ended").is_displayed():
        texts.add(tab.one("#prompt").text)
        press(tab, Keys.ARROW_DOWN)
    assert any(HOSTILE in text for text in texts)
    assert "All pairs are judged" in tab.one("#ending").text
    assert not tab.one("#choices").is_displayed()
    press(tab, Keys.BACKSPACE)
    assert tab.one("#choices").is_displayed() and len(served.session.left) == 1
    tab.press(tab.one("#finish"))
    tab.wait(lambda: "You can close this page" in tab.one("#ending").text)
    assert not tab.one("#finish").is_displayed()


@pytest.mark.parametrize("width", ["phone", "desktop"])
def test_it_fits_and_can_be_used_by_keyboard(chromium: Any, served: Server, width: str) -> None:
    tab = opened(chromium, served, width, dark=width == "phone")
    assert tab.js("return document.documentElement.scrollWidth") <= WIDTHS[width][0]
    shown = (
        "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return r.bottom"
    )
    for part in ("#image-a", "#image-b", "#choices"):
        assert tab.js(shown, part) <= WIDTHS[width][1], f"{part} is seen without scrolling"
    names = [each.accessible_name for each in tab.all("button")]
    for part in ("A is better", "No preference", "B is better", "Undo", "Finish"):
        assert any(part in name for name in names)
    after(tab, lambda: tab.press(tab.one("#same")))
    assert tab.js("return document.activeElement.id") == "same", "the focus stays"
    ActionChains(tab.driver).send_keys(Keys.TAB).perform()
    assert tab.js("return document.activeElement.id") == "b"
    outline = tab.js("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the focus is can be seen"
    press(tab, Keys.ENTER)
    assert served.session.judged == 2
    alts = [each.get_attribute("alt") for each in tab.all(".both img")]
    assert alts == ["image A of the prompt", "image B of the prompt"]


def test_a_server_that_is_gone_is_told(chromium: Any, served: Server) -> None:
    tab = opened(chromium, served)
    served.shutdown()
    served.server_close()
    ActionChains(tab.driver).send_keys(Keys.ARROW_DOWN).perform()
    tab.wait(lambda: "may not have been saved" in tab.one("#count").text)
    tab.driver.get_log("browser")
