"""What the report shows is what the records say; its pictures fit, its texts stay texts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffaccel.evaluation import keys
from diffaccel.evaluation.bench import save_images
from diffaccel.evaluation.gallery import KEPT, SIDE, Gallery
from diffaccel.evaluation.records import Baseline, Evaluation, Measurement
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.experiment.limits import read_limits
from diffaccel.experiment.options import SearchOptions
from diffaccel.experiment.tasks import Task
from diffaccel.recipes.recipe import read_recipe
from diffaccel.report import blind
from diffaccel.report.page import charts, render
from diffaccel.report.page.album import Album
from diffaccel.report.page.gather import gather
from diffaccel.search.records import Answer
from diffaccel.store.jsonio import read_record, write_record
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
ROWS = [
    store.measurement(store.deepcache(2), 1.5, -0.001),
    store.measurement(store.deepcache(3), 2.0, 0.004),
    store.measurement(store.deepcache(5), 3.0, 0.15),
]
OTHERS = [store.measurement(store.tgate(9), 1.8, 0.001)]


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two accelerators that were searched, one that was refused, one task met and one not."""
    cell = Cell(CONFIGURATION, ("deepcache",))
    tasks = [
        Task(f"{cell.slug}_{speed}x", "target", cell, speed, None, store.LIMIT, None)
        for speed in (1.2, 2.5)
    ]
    answers = [
        Answer(tasks[0], "met", "", ROWS[0], None, None),
        Answer(tasks[1], "infeasible", "2.5x is above the bound of 2.2x", None, ROWS[1], None),
    ]
    cells = {("deepcache",): ROWS, ("tgate",): OTHERS, ("tome",): []}
    refused = {("tome",): "nothing to merge"}
    store.write(tmp_path, CONFIGURATION, cells, answers=answers, refused=refused)
    return tmp_path / "cpu"


def test_warnings_of_baselines_are_shown_once(results: Path) -> None:
    """With the names of all configurations that they are of."""
    said = "5 of 8 prompts are longer than the text encoder reads <77 tokens>"
    other = dataclasses.replace(CONFIGURATION, steps=50)
    store.write(results.parent, other, {("deepcache",): ROWS})
    for each in (CONFIGURATION, other):
        path = results / "baseline" / f"{each.slug}.json"
        write_record(path, dataclasses.replace(read_record(Baseline, path), warnings=[said]))
    page = gather(results)
    assert page.trust.warnings == {said: [CONFIGURATION.slug, other.slug]}
    html = render.render(page)
    assert html.count("5 of 8 prompts are longer") == 1 and "&lt;77 tokens&gt;" in html


def test_a_configuration_shows_what_was_found(results: Path) -> None:
    (view,) = gather(results).configurations
    cache, gate, merge = view.series
    assert [point.speedup for point in cache.points] == [1.5, 2.0, 3.0]
    assert [point.marks for point in cache.points] == [
        ["1.2x"],
        ["the fastest within the limit"],
        [],
    ]
    assert [point.within for point in cache.points] == [True, True, False]
    assert cache.points[1].parameters == "cache_branch_id=0 cache_interval=3"
    assert cache.points[1].seconds == pytest.approx(view.seconds / 2)
    assert cache.use is cache.points[1] and cache.doubt is None and gate.use is gate.points[0]
    assert merge.points == [] and merge.reason == "nothing to merge"
    (unmet,) = view.unmet
    assert (unmet.required, unmet.nearest) == ("2.5x", "2.00x, loss 0.4%")
    assert view.targets == [1.2, 2.5]


def test_the_axis_is_broken_where_losses_are_great(results: Path) -> None:
    """To scale below; above, in their order, each with its number."""
    drawn = charts.data(gather(results).configurations[0])
    rows, top = drawn["points"], charts.CEILING * store.LIMIT
    assert [row["y"] for row in rows[:2]] == [-0.001, 0.004]
    (line,) = drawn["breaks"]
    assert top < line["y"] < rows[2]["y"] and line["label"] == "above 10%, not to scale"
    heights = [charts.Scale(top, 0.9)(loss) for loss in (0.05, top, 0.11, 0.5, 0.9)]
    assert heights[:2] == [0.05, top] and heights == sorted(set(heights))
    assert [row["label"] for row in rows[:3]] == ["", "", "15%"]
    assert (
        "2.00 times as fast" in rows[1]["words"]
        and "chosen for the fastest within the limit" in rows[1]["words"]
    )


def test_how_it_was_searched(results: Path) -> None:
    """In the order of the evaluations; only what was faster than all before it, and kept the
    limit."""
    baseline = store.baseline(CONFIGURATION)
    rows = keys.evaluated(results / "journal", baseline, Cell(CONFIGURATION, ("deepcache",)).slug)
    losses = [0.001, 0.03, 0.0005, 0.004, 0.019, 0.06, 0.015]
    for number, loss in enumerate(losses):
        made = store.measurement(store.deepcache(2 + number), 1.0, loss)
        fields = {each.name: getattr(made, each.name) for each in dataclasses.fields(Evaluation)}
        rows.append(Evaluation(**fields | {"spent": 10.0, "scores": {"clip_score": [80.0] * 4}}))
    ((cache, *_),) = (each.series for each in gather(results).configurations)
    numbers = [gain.number for gain in cache.gains]
    assert numbers and numbers == sorted(numbers) and not {2, 6} & set(numbers)
    assert [gain.seconds for gain in cache.gains] == [10.0 * number for number in numbers]
    speeds = [gain.speedup for gain in cache.gains]
    assert speeds == sorted(speeds)
    (interval,) = cache.influences
    assert (interval.parameter, interval.values) == ("deepcache.cache_interval", 7)
    assert interval.speedup > 0.9 and 0 < interval.loss < 0.9


def test_what_is_to_be_used_has_its_script_and_recipe(results: Path, tmp_path: Path) -> None:
    (view,) = gather(results).configurations
    cache, gate, merge = view.series
    path = tmp_path / "recipe.json"
    path.write_text(cache.recipe)
    recipe = read_recipe(path)
    assert (recipe.speedup, recipe.parameters) == (2.0, store.deepcache(3))
    assert cache.script is None, "no task has this candidate as its answer"
    assert gate.recipe and not merge.recipe


def test_numbers_at_the_upper_edge_do_not_lie_on_each_other(tmp_path: Path) -> None:
    over = [(2.9, 0.12), (2.97, 0.13), (3.0, 0.2), (6.0, 0.47)]
    rows = [store.measurement(store.deepcache(n), *each) for n, each in enumerate(over, 3)]
    store.write(tmp_path, CONFIGURATION, {("deepcache",): [ROWS[0], *rows]})
    (view,) = gather(tmp_path / "cpu").configurations
    labels = [row["label"] for row in charts.data(view)["points"]]
    assert labels == ["", "", "", "20%", "47%"]


def test_a_frontier_by_itself_names_its_series(results: Path) -> None:
    page = gather(results)
    drawn = charts.as_svg(page.configurations[0], page.names, page.fewer_steps)
    assert len(page.names) > 1 and all(f">{name}</text>" in drawn for name in page.names)
    assert f'fill="{charts.PAPER.paper}"' in drawn
    within = charts.compiled(charts.chart(page.names, page.fewer_steps, charts.PAGE, 9))
    assert not within.get("legends"), "the page has its own"


def test_no_text_ends_the_element_that_it_stands_in(results: Path) -> None:
    script = results / "code" / "x.py"
    script.parent.mkdir()
    script.write_text('"""</script><script>alert(1)</script>"""\n')
    html = render.render(gather(results))
    data = html.split('id="data">')[1].split("</script>")[0]
    found = json.loads(data)
    assert len(found["scripts"]["x"]) == 1
    assert "&lt;/script&gt;" in found["lines"][found["scripts"]["x"][0]]
    assert html.count("<script>alert") == 0


def test_scripts_share_their_lines() -> None:
    one, other = '"""A\n\nB."""\nX = 1\n', '"""A\n\nB."""\nX = 2\n'
    lines, scripts = render.highlighted({"one": one, "other": other})
    assert len(lines) == 5 and scripts["one"][:3] == scripts["other"][:3]
    assert len(scripts["one"]) == len(one.splitlines())


@pytest.mark.parametrize("limit", [30_000, 200_000])
def test_images_fit_whatever_they_are(tmp_path: Path, limit: int) -> None:
    album = Album()
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.fromarray(noise(1, 200)[0]).save(path)
        assert album.add(path, number % 4) == number
    assert album.add(tmp_path / "0.png", 0) == 0
    made = album.encoded(limit)
    assert sum(map(len, made)) <= limit
    assert all(made[::4]), "the first prompt is always there"


def scored(parameters: dict, speedup: float, loss: float, psnr: list[float]) -> Measurement:
    row = store.measurement(parameters, speedup, loss)
    return dataclasses.replace(row, scores={"clip_score": [80.0, 79.0, 60.0, 81.0], "psnr": psnr})


def kept(folder: Path, rows: list[Measurement], count: int) -> None:
    """The baseline's images, and so many of each candidate."""
    baseline, images = store.baseline(CONFIGURATION), noise(4, 32)
    save_images(folder / "baseline" / CONFIGURATION.slug, images)
    for number, row in enumerate(rows):
        made = images[:count] // (number + 2)
        Gallery.beside(folder / "journal", baseline).keep_answer(baseline, row, made)


def test_the_worst_images_of_answers_come_with_the_baselines(tmp_path: Path) -> None:
    rows = [
        scored(store.deepcache(2), 1.5, 0.001, [30.0, 9.0, 40.0, 20.0]),
        scored(store.deepcache(5), 3.0, 0.15, [1.0, 1.0, 1.0, 1.0]),
    ]
    store.write(tmp_path, CONFIGURATION, {("deepcache",): rows, ("tgate",): OTHERS})
    kept(tmp_path / "cpu", rows, 4)
    page = gather(tmp_path / "cpu")
    (view,) = page.configurations
    answer, beyond = view.series[0].points
    assert beyond.worst == [] and not view.series[1].points[0].worst, "no answer; no images"
    by = {each.metric: each for each in answer.worst}
    assert [*by] == ["psnr", "clip_score"]
    assert [pair.prompt for pair in by["psnr"].pairs] == [1, 3, 0]
    assert [pair.prompt for pair in by["clip_score"].pairs] == [2, 1, 0]
    assert by["clip_score"].pairs[0].reference == 80.0 and by["psnr"].pairs[0].reference is None
    assert by["psnr"].among is None and answer.eyes == ""
    assert view.texts[1] == "prompt 1"
    encoded = page.worst.encoded()
    assert all(encoded) and len(encoded) == 2 * 4, "each once, whatever calls it bad"
    first = by["psnr"].pairs[0]
    assert encoded[first.own] != encoded[first.baseline]
    html = render.render(page)
    assert encoded[first.own] in html and encoded[first.baseline] in html


def test_where_few_images_are_kept_the_page_says_so(tmp_path: Path) -> None:
    rows = [scored(store.deepcache(2), 1.5, 0.001, [30.0, 9.0, 5.0, 2.0])]
    store.write(tmp_path, CONFIGURATION, {("deepcache",): rows})
    kept(tmp_path / "cpu", rows, 2)
    (view,) = gather(tmp_path / "cpu").configurations
    psnr = view.series[0].points[0].worst[0]
    assert psnr.among == 2 and [pair.prompt for pair in psnr.pairs] == [1, 0]


def test_limits_say_by_what_the_worst_are_sorted(tmp_path: Path) -> None:
    rows = [scored(store.deepcache(2), 1.5, 0.001, [30.0, 9.0, 5.0, 2.0])]
    scores = {**rows[0].scores, "lpips": [0.1, 0.2, 0.3, 0.0]}
    rows = [dataclasses.replace(rows[0], scores=scores)]
    options = SearchOptions("frontier", limits=read_limits({"lpips": "at most 0.5"}))
    store.write(tmp_path, CONFIGURATION, {("deepcache",): rows}, options=options)
    kept(tmp_path / "cpu", rows, 4)
    (view,) = gather(tmp_path / "cpu").configurations
    worst = view.series[0].points[0].worst
    assert [each.metric for each in worst] == ["lpips", "psnr", "clip_score"]
    assert [pair.prompt for pair in worst[0].pairs] == [2, 1, 0]


def test_what_people_said_stands_beside_the_metrics(tmp_path: Path) -> None:
    rows = [scored(store.deepcache(2), 1.5, 0.001, [30.0, 9.0, 5.0, 2.0])]
    store.write(tmp_path, CONFIGURATION, {("deepcache",): rows})
    kept(tmp_path / "cpu", rows, 4)
    session = blind.Session(blind.answers_in(tmp_path / "cpu"), tmp_path / "cpu/journal")
    while shown := session.shown():
        session.say(shown.name, "same")
    (view,) = gather(tmp_path / "cpu").configurations
    (point,) = view.series[0].points
    assert point.eyes == (
        "too few pairs to tell: preferred in 50% of 4 pairs (95% interval 26% to 74%); "
        "0 better, 4 without a preference, 0 worse"
    )


def test_of_the_worst_images_those_of_what_is_to_be_used_stay(tmp_path: Path) -> None:
    """Where there is no room for all."""
    album = Album()
    for number in range(20):
        path = tmp_path / f"{number}.png"
        Image.fromarray(noise(1, 200)[0]).save(path)
        album.add(path, 3)
    album.add(tmp_path / "7.png", 0)
    made = album.encoded(60_000)
    assert [n for n, each in enumerate(made) if each] == [7]


def test_half_an_image_is_none(tmp_path: Path) -> None:
    (tmp_path / "0.webp").write_bytes(b"RIFF")
    album = Album()
    album.add(tmp_path / "0.webp", 0)
    assert album.encoded() == [""]


def test_the_gallery_keeps_the_first_images_and_makes_them_small(tmp_path: Path) -> None:
    gallery = Gallery.beside(tmp_path, store.baseline(CONFIGURATION))
    assert gallery.paths(store.deepcache(2)) == {}
    gallery.keep(store.deepcache(2), noise(KEPT + 3, SIDE + 88))
    paths = gallery.paths(store.deepcache(2))
    assert [path.name for path in paths.values()] == [f"{n:03}.webp" for n in range(KEPT)]
    assert Image.open(paths[0]).size == (SIDE, SIDE)
    assert gallery.paths(store.deepcache(3)) == {}
