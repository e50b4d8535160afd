"""The report does what it says, in a browser without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.browser.conftest import CELLS, TARGETS, title
from tests.browser.tab import WIDTHS, Tab
from tests.turns import first

pytestmark = pytest.mark.browser


@pytest.fixture
def full(chromium: Any, pages: dict[str, Path]) -> Tab:
    return Tab(chromium, pages["full"], WIDTHS["desktop"])


@pytest.fixture
def part(chromium: Any, pages: dict[str, Path]) -> Tab:
    return Tab(chromium, pages["part"], WIDTHS["desktop"])


@pytest.fixture
def unclear(chromium: Any, pages: dict[str, Path]) -> Tab:
    return Tab(chromium, pages["unclear"], WIDTHS["desktop"])


@pytest.fixture
def worst(chromium: Any, pages: dict[str, Path]) -> Tab:
    return Tab(chromium, pages["worst"], WIDTHS["desktop"])


def test_what_to_use_is_what_is_clear(unclear: Tab) -> None:
    """The headline and the cards say the same; what is faster and not clear is said to be that."""
    title, about = unclear.one("h1").text, unclear.one("#headline-about").text
    assert title == "2.10 times as fast, with a loss clearly below 2%"
    assert "by fewer steps" in about and "No accelerator is clearly faster" in about
    doubt = unclear.one("#headline-doubt").text
    assert doubt.startswith("Not clear yet: mini-SD1.5 with DDIM at 20 steps, DeepCache, 3.50x")
    assert "more prompts would tell" in doubt
    first, second = (card.text for card in unclear.all(".card"))
    assert "2.10x" in first and "fewer steps" in first and "DeepCache, 1.80x" in first
    assert "3.50x" in first and "diffaccel run --config" in first
    assert "1.80x" in second and "clearly below 2.0%" in second and "Not clear" not in second


def test_the_headline_follows_the_filters(unclear: Tab) -> None:
    unclear.choose("#filter-model", "mini-SD2.1")
    assert unclear.one("h1").text == "1.80 times as fast, with a loss clearly below 2%"
    assert "mini-SD1.5" not in unclear.one("#headline-about").text
    assert unclear.one("#headline-doubt").text == ""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "says", "cards"),
    [
        ("empty", "Nothing was measured yet", 0),
        ("part", "times as fast, with a loss clearly below 2%", 1),
        ("full", "times as fast, with a loss clearly below 2%", 27),
    ],
)
def test_it_opens_without_errors_and_fetches_nothing(
    chromium: Any, pages: dict[str, Path], name: str, says: str, cards: int, width: str
) -> None:
    tab = Tab(chromium, pages[name], WIDTHS[width])
    assert says in tab.one("h1").text
    assert len(tab.all(".card")) == cards
    assert tab.driver.get_log("browser") == []
    entries = tab.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [each for each in entries if not each.startswith("data:")] == []
    # A phone widens its window to what overflows.
    assert tab.js("return document.documentElement.scrollWidth") <= WIDTHS[width][0]
    assert tab.js("return window.hurt") is None, "a prompt became code"


def test_it_is_small_enough_to_be_sent(pages: dict[str, Path]) -> None:
    assert all(path.stat().st_size < 10 * 2**20 for path in pages.values())


def test_what_failed_is_told(part: Tab) -> None:
    said, other = part.all(".failed")
    assert "2 jobs failed" in said.text
    assert "out of memory" in said.text and "logs/search/mini-SD1.5_DDIM_50.log" in said.text
    assert "mini-SD1.5_DDIM_25" in said.text and "not JSON" in said.text
    assert "faster, please" in other.text and "no model is named" in other.text


def test_filters_keep_what_they_say(full: Tab) -> None:
    full.choose("#filter-model", "mini-SD2.1")
    full.choose("#filter-steps", "25")
    assert len(full.all(".card")) == 3
    titles = full.texts("#matrix tbody th")
    assert len(titles) == 3
    assert all("mini-SD2.1" in each and "25 steps" in each for each in titles)
    full.every_task()
    assert full.column("Model") == ["mini-SD2.1"] * 3 * len(CELLS) * len(TARGETS)
    assert set(full.column("Steps")) == {"25"}
    full.choose("#filter-accelerators", "T-Gate")
    assert all("T-Gate" in each for each in full.texts(".card .figure"))
    assert full.texts("#legend button") == ["■ T-Gate"]
    marks = [each.get_attribute("aria-label") for each in full.all("#chart .mark-symbol path")]
    assert {each.split(":")[0] for each in marks if each} == {"T-Gate"}
    assert set(full.column("Accelerators")) == {"T-Gate"}
    assert full.one("#filter-count").text == "3 of 27 configurations, 3 cells"
    full.press(full.one("#filters button"))
    assert len(full.all(".card")) == 27


def test_a_link_keeps_the_filters(chromium: Any, pages: dict[str, Path], full: Tab) -> None:
    full.choose("#filter-model", "mini-SD2.1")
    full.choose("#filter-steps", "25")
    kept = full.js("return location.hash")
    assert kept == "#?model=mini-SD2.1&steps=25"
    chromium.get("about:blank")
    chromium.get(pages["full"].as_uri() + kept + "&scheduler=none-of-these")
    full.wait(lambda: full.js("return document.documentElement.dataset.ready"))
    assert full.one("#filter-count").text.startswith("3 of 27 configurations")
    chromium.get("about:blank")
    chromium.get(pages["full"].as_uri() + "#tasks")
    assert len(full.all(".card")) == 27, "the name of a part is no filter"


def test_fewer_steps_are_among_the_accelerators(unclear: Tab) -> None:
    unclear.choose("#filter-accelerators", "fewer steps")
    assert unclear.one("h1").text.startswith("2.10 times")
    assert "No accelerator" not in unclear.one("#headline-about").text
    assert [each.split()[-2:] for each in unclear.texts("#legend button")] == [["fewer", "steps"]]


def test_tasks_with_the_same_answer_are_one_row(full: Tab) -> None:
    full.choose("#filter-model", "mini-SD1.5")
    full.choose("#filter-scheduler", "DDIM")
    full.choose("#filter-steps", "20")
    full.choose("#filter-accelerators", "DeepCache")
    folded = full.column("Asked for")
    assert "infeasible" not in " ".join(full.column("Status"))
    full.every_task()
    each = full.column("Asked for")
    assert len(each) == len(TARGETS) > len(folded)
    statuses = full.column("Status")
    met = [asked for asked, status in zip(each, statuses, strict=True) if status == "met"]
    assert sorted(", ".join(folded).split(", ")) == sorted(met)
    assert f"{len(TARGETS)} of {len(TARGETS)} rows" in full.one("#tasks-count").text


def test_a_card_has_what_it_takes_to_use_it(part: Tab) -> None:
    card = part.one(".card")
    part.press(card.find_element(By.CSS_SELECTOR, ".asked summary"))
    asked = card.find_elements(By.CSS_SELECTOR, ".asked li")
    assert [each.text.split(":")[0] for each in asked] == [
        f"{target:g}x" for target in TARGETS if target < 4
    ]
    (button,) = [b for b in card.find_elements(By.TAG_NAME, "button") if b.text == "Recipe"]
    part.press(button)
    recipe = json.loads(part.one("#dialog-code").text)
    assert f"{recipe['speedup']:.2f}x" in card.find_element(By.CSS_SELECTOR, ".figure").text
    assert "diffaccel recommend --model mini-SD1.5" in part.one("#dialog-help").text


@pytest.mark.parametrize("width", ["phone"])
def test_on_a_phone_each_cell_of_a_table_has_its_name(
    chromium: Any, pages: dict[str, Path], width: str
) -> None:
    tab = Tab(chromium, pages["part"], WIDTHS[width])
    assert not tab.one("#table thead").is_displayed()
    row = tab.one("#table tbody tr")
    cells = [each for each in row.find_elements(By.TAG_NAME, "td") if each.is_displayed()]
    names = [each.get_attribute("data-label") for each in cells]
    assert {"Status", "Speedup", "Loss", "Files"} <= set(names)
    for each in cells:
        box = each.rect
        assert box["x"] >= 0 and box["x"] + box["width"] <= WIDTHS[width][0]


@pytest.mark.parametrize("name", first(["Loss", "Asked for", "Scheduler"]))
def test_the_table_sorts(full: Tab, name: str) -> None:
    full.every_task()
    before = full.column(name)

    def key(text: str) -> Any:
        number = re.match(r"-?[\d.]+", text.replace("\N{MINUS SIGN}", "-"))
        return text if name == "Scheduler" or number is None else float(number.group())

    (button,) = [each for each in full.all("#table thead button") if each.text == name]
    for direction in ("ascending", "descending"):
        full.press(button)
        there = [each for each in before if each]
        expected = sorted(map(key, there), reverse=direction == "descending")
        found = full.column(name)
        assert [key(each) for each in found[: len(there)]] == expected
        assert not any(found[len(there) :]), "what is missing comes last"
        (sorted_by,) = full.all(f'#table th[aria-sort="{direction}"]')
        assert sorted_by.text.startswith(name)


def test_the_csv_has_every_column_of_what_is_shown(
    full: Tab, pages: dict[str, Path], tmp_path: Path
) -> None:
    full.choose("#filter-model", "mini-SDXL")
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    full.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    full.press(full.one("#download"))
    full.wait((tmp_path / "tasks.csv").is_file)
    table = pd.read_csv(tmp_path / "tasks.csv")
    assert len(table) == 9 * len(CELLS) * len(TARGETS)
    assert set(table["model"]) == {"mini-SDXL"}
    row = table[table["id"] == "mini-SDXL_DDIM_20_deepcache+tgate_1.5x"].iloc[0]
    assert row["accelerators"] == "DeepCache and T-Gate" and row["speedup"] == pytest.approx(1.96)
    assert {"bound_speedup", "loss_low", "heldout_loss", "parameters"} <= set(table.columns)


def test_hovering_shows_the_parameters(part: Tab) -> None:
    mark = part.mark(3)
    ActionChains(part.driver).move_to_element(mark).perform()
    tip = part.wait(lambda: part.one("#tip:not([hidden])"))
    name, said = mark.get_attribute("aria-label").split(":")
    assert name in tip.text and "loss" in tip.text and "=" in tip.text
    assert f"{float(said.split()[0]):.2f}x" in tip.text
    ActionChains(part.driver).move_to_element(part.one("h1")).perform()
    part.wait(lambda: part.one("#tip").get_attribute("hidden"))


@pytest.mark.parametrize("width", WIDTHS)
def test_clicking_a_mark_shows_its_images(
    chromium: Any, pages: dict[str, Path], width: str
) -> None:
    tab = Tab(chromium, pages["part"], WIDTHS[width])
    mark = tab.mark(0)
    name, said = mark.get_attribute("aria-label").split(":")
    ActionChains(tab.driver).move_to_element(mark).click().perform()
    assert tab.one("#viewer-title").text == f"Along the frontier of {name}"
    assert f"{float(said.split()[0]):.2f}x" in tab.point()
    sources = [each.get_attribute("src") for each in tab.all("#trio img")]
    assert len(sources) == 4 and all(each.startswith("data:image/webp") for each in sources)
    assert sources[:2] == sources[2:], "the difference is that of the two beside it"
    assert tab.js("return [...document.querySelectorAll('#trio img')].every((i) => i.naturalWidth)")


def test_the_slider_walks_along_the_frontier_by_keyboard(part: Tab) -> None:
    (button,) = [each for each in part.all("#legend button") if each.text.endswith("ToMe")][:1]
    part.press(button)
    slider = part.one("#place")
    slider.send_keys(Keys.HOME)
    seen, speeds = [], []
    for _ in range(5):
        seen.append(part.all("#trio img")[1].get_attribute("src"))
        speeds.append(slider.get_attribute("aria-valuetext"))
        slider.send_keys(Keys.ARROW_RIGHT)
    assert len(set(seen)) == 5 and len(set(speeds)) == 5
    assert "beyond the limit" in part.point()
    slider.send_keys(Keys.HOME)
    assert "within the limit" in part.point()


def test_another_prompt_is_another_pair(part: Tab) -> None:
    before = [each.get_attribute("src") for each in part.all("#trio img")]
    part.press(part.all("#thumbs button")[2])
    after = [each.get_attribute("src") for each in part.all("#trio img")]
    assert len(before) == len(after) and not set(before) & set(after)
    assert part.one("#prompt").text == "“prompt 2”"


def test_a_card_and_a_bound_lead_to_the_frontier(full: Tab) -> None:
    card = full.all(".card")[4]
    full.press(card.find_element(By.CSS_SELECTOR, ".does button"))
    configuration = Select(full.one("#configuration")).first_selected_option.text
    assert configuration == "mini-SD1.5, DPM-Solver++, 25 steps"
    full.press(full.all("#matrix tbody tr")[1].find_elements(By.TAG_NAME, "button")[0])
    assert full.one("#viewer-title").text == "Along the frontier of DeepCache"
    assert "chosen for the fastest within the limit" in full.point()
    label = full.one("#chart").get_attribute("aria-label")
    assert label == "Speedup against loss of mini-SD1.5, DDIM, 25 steps"


def test_a_script_is_shown_whole_and_copied(part: Tab, pages: dict[str, Path]) -> None:
    permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    part.driver.execute_cdp_cmd("Browser.grantPermissions", permission)
    link = next(each for each in part.all("#table a") if each.text == "script")
    source = (pages["part"].parent / "code" / link.get_attribute("href").split("/")[-1]).read_text()
    part.press(link)
    assert part.js("return document.getElementById('dialog-code').textContent") == source
    assert part.all("#dialog-code span"), "it is highlighted"
    part.press(part.one("#copy"))
    part.wait(lambda: part.one("#copy").text == "Copied")
    read = "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))"
    assert part.driver.execute_async_script(read) == source
    ActionChains(part.driver).send_keys(Keys.ESCAPE).perform()
    part.wait(lambda: not part.one("#dialog").is_displayed())


def test_a_row_shows_its_json(part: Tab) -> None:
    row = part.one('tr[data-id="mini-SD1.5_DDIM_20_deepcache_1.5x"]')
    part.press(row.find_element(By.LINK_TEXT, "JSON"))
    shown = json.loads(part.one("#dialog-code").text)
    assert shown["required"] == 1.5 and shown["status"] == "met"
    link = part.one("#dialog-help a").get_attribute("href")
    assert link.endswith("search/mini-SD1.5_DDIM_20.json")


def test_colours_follow_the_system(chromium: Any, pages: dict[str, Path]) -> None:
    code = "return getComputedStyle(document.body).backgroundColor"
    light = Tab(chromium, pages["part"], WIDTHS["desktop"]).js(code)
    dark = Tab(chromium, pages["part"], WIDTHS["desktop"], dark=True).js(code)
    assert light == "rgb(255, 255, 255)" and dark != light


def test_everything_that_can_be_used_has_a_name(part: Tab) -> None:
    part.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = part.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "combobox", "slider", "image", "graphics-symbol", "region"}
    used = [n for n in nodes if n.get("role", {}).get("value") in roles and not n["ignored"]]
    nameless = [n for n in used if not n.get("name", {}).get("value")]
    assert {n["role"]["value"] for n in used} >= {"button", "link", "combobox", "slider", "image"}
    assert nameless == []
    assert title(("deepcache", "tgate")) in " ".join(n["name"]["value"] for n in used)


def test_held_out_and_verified_are_counted(full: Tab) -> None:
    figures = full.texts("#trust article .figure")
    assert figures[:3] == ["27 of 27", "27 of 27", "162 of 162"]


def test_the_worst_images_stand_beside_the_baselines(worst: Tab) -> None:
    """Sorted by the metric that was chosen, with what people said of the answer."""
    worst.choose("#worst-by", "PSNR")
    answer, other = worst.all("#worst-answers .answer")
    assert "T-Gate 1.50x" in other.text and not worst.all("#worst-answers .answer:last-child img")
    values = worst.texts("#worst-answers figcaption strong")
    assert values == ["PSNR 9.00 dB", "PSNR 20.0 dB", "PSNR 30.0 dB"]
    assert "By eye: too few pairs to tell: preferred in 50% of 4 pairs" in answer.text
    alts = [each.get_attribute("alt") for each in worst.all("#worst-answers img")]
    assert len(alts) == 6 and alts[0].startswith("baseline pipeline: ") and "prompt 1" in alts[1]
    shown = [each.get_attribute("src") for each in worst.all("#worst-answers img")]
    assert all(each.startswith("data:image/webp") for each in shown) and shown[0] != shown[1]
    worst.choose("#worst-by", "CLIP score")
    assert worst.texts("#worst-answers figcaption strong")[0] == "CLIP score 60.0, baseline 80.0"
    assert "By eye" in worst.texts(".card dt"), "in the card of what is to be used, too"
    worst.choose("#filter-accelerators", "T-Gate")
    assert len(worst.all("#worst-answers .answer")) == 1
    worst.choose("#filter-accelerators", "DeepCache")
    assert len(worst.all("#worst-answers img")) == 6
