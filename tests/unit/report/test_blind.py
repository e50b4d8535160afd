"""Comparing by eye: what is shown tells nothing, and what is said is kept."""

from __future__ import annotations

import dataclasses
import http.client
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from diffaccel.errors import InputError
from diffaccel.evaluation.gallery import ANSWERS, Gallery
from diffaccel.experiment.grid import Cell, Configuration
from diffaccel.report import blind
from diffaccel.report.blind.preference import preferences
from diffaccel.report.blind.records import Comparison, journal_of
from diffaccel.report.blind.server import HOST, Server, serve
from diffaccel.report.blind.session import Session, in_order
from diffaccel.search.records import Search
from diffaccel.store.jsonio import read_record, write_record
from tests import store

CONFIGURATION = Configuration("mini-SD1.5", "DDIM", 20)
BASELINE = store.baseline(CONFIGURATION)
FAST = store.deepcache(3)
COUNT = len(BASELINE.prompts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two answers whose images are kept: all of one, half of the other. The baseline's images have
    what would give them away: a comment, and other colours than the kept ones."""
    cached = store.measurement(FAST, 2.0, 0.001)
    gated = store.measurement(store.tgate(9), 1.5, 0.001)
    store.write(tmp_path, CONFIGURATION, {("deepcache",): [cached], ("tgate",): [gated]})
    made = tmp_path / "cpu"
    images = np.random.default_rng(0).integers(0, 255, (COUNT, 24, 32, 3), dtype=np.uint8)
    images = images.repeat(4, 1).repeat(4, 2)
    names = PngImagePlugin.PngInfo()
    names.add_text("Comment", "the baseline's")
    (made / "baseline" / CONFIGURATION.slug).mkdir()
    for number, pixels in enumerate(images):
        path = made / "baseline" / CONFIGURATION.slug / f"{number:03}.png"
        Image.fromarray(pixels).save(path, pnginfo=names)
    gallery = Gallery.beside(made / "journal", BASELINE)
    gallery.keep_answer(BASELINE, cached, 255 - images)
    gallery.keep_answer(BASELINE, gated, images[: COUNT // 2] // 2)
    return made


def session(folder: Path, **changes: Any) -> Session:
    return Session(blind.answers_in(folder), folder / "journal", **{"seed": 7} | changes)


def rows(folder: Path) -> list[Comparison]:
    return journal_of(folder / "journal", BASELINE).rows()


def judge_all(made: Session, said: str = "same", most: int = 99) -> list[tuple[str, int, str]]:
    """Says the same of pairs; what was shown: answer, prompt, and which was A."""
    found: list[tuple[str, int, str]] = []
    while (shown := made.shown()) is not None and len(found) < most:
        found.append((shown.pair.answer.digest, shown.pair.prompt, shown.first))
        made.say(shown.name, said)
    return found


def test_answers_with_their_images(folder: Path) -> None:
    fast, gated = blind.answers_in(folder)
    assert [*fast.kept] == [*range(COUNT)] and [*gated.kept] == [*range(COUNT // 2)]
    assert "DeepCache, 2.00x: " in fast.title and "mini-SD1.5, DDIM, 20 steps" in fast.title
    (folder / "baseline" / CONFIGURATION.slug / "000.png").unlink()
    assert 0 not in blind.answers_in(folder)[0].kept, "it has nothing to be compared with"


def test_nobody_is_asked_about_an_image_that_is_kept_as_one_of_the_worst(folder: Path) -> None:
    """With such, the share would not be that of all prompts."""
    fast, _ = blind.answers_in(folder)
    late = dataclasses.replace(fast, kept={**fast.kept, ANSWERS: fast.kept[0]})
    prompts = {pair.prompt for pair in in_order([late], 1)}
    assert prompts == {*range(COUNT)} and ANSWERS in late.kept


def test_what_was_measured_beside_another_baseline_is_no_answer(folder: Path) -> None:
    path = folder / "search" / f"{CONFIGURATION.slug}.json"
    found = read_record(Search, path)
    cell = Cell(CONFIGURATION, ("fewer_steps",))
    row = store.measurement({"fewer_steps": {"steps": 9}}, 2.1, 0.003)
    fewer = store.frontier(cell, [row])
    names = {}
    for baseline in (fewer.baseline, "another"):
        own = dataclasses.replace(fewer, baseline=baseline)
        write_record(path, dataclasses.replace(found, fewer_steps=own))
        names[baseline] = [each.names for each in blind.answers_in(folder)]
    assert names[fewer.baseline] == [*names["another"], ("fewer_steps",)]


def test_a_choice_of_answers(folder: Path) -> None:
    (gated,) = blind.answers_in(folder, blind.Choice(accelerators=[("tgate",)]))
    assert gated.names == ("tgate",)
    assert len(blind.answers_in(folder, blind.Choice("mini-SD1.5", "DDIM", 20))) == 2
    for wrong, says in (
        (blind.Choice("mini-SD2.1"), "there is mini-SD1.5_DDIM_20"),
        (blind.Choice(steps=50), "there is mini-SD1.5_DDIM_20"),
        (blind.Choice(accelerators=[("tome",)]), "there is DeepCache; T-Gate"),
    ):
        with pytest.raises(InputError, match=says):
            blind.answers_in(folder, wrong)
    with pytest.raises(InputError, match="nothing was searched there"):
        blind.answers_in(folder / "code")


def test_the_verdict_is_of_the_accelerated_image(folder: Path) -> None:
    made = session(folder)
    seen = judge_all(made, "a")
    assert Counter(row.verdict for row in rows(folder)).keys() == {"better", "worse"}
    for row, (answer, prompt, first) in zip(rows(folder), seen, strict=True):
        assert (row.answer, row.prompt, row.first) == (answer, prompt, first)
        assert row.verdict == ("better" if first == "accelerated" else "worse")
        assert row.baseline_image != row.accelerated_image and row.seed == 7
    assert made.shown() is None and made.judged == len(seen) == COUNT + COUNT // 2


def test_order_and_sides_are_random_and_the_seed_gives_them_again(folder: Path) -> None:
    orders = {}
    for seed in range(20):
        answers = blind.answers_in(folder)
        pairs = in_order(answers, seed)
        made = Session(answers, folder / f"j{seed}", seed=seed)
        orders[seed] = judge_all(made)
        assert [(p.answer.digest, p.prompt) for p in pairs] == [row[:2] for row in orders[seed]]
    assert len({tuple(order) for order in orders.values()}) == 20
    sides = Counter((row[0], row[1], row[2]) for order in orders.values() for row in order)
    pairs = {key[:2] for key in sides}
    assert all(0 < sides[(*pair, "baseline")] < 20 for pair in pairs), "a side is always the same"
    assert judge_all(Session(answers, folder / "again", seed=3)) == orders[3]
    secret = [Session(answers, folder / "new").seed for _ in range(3)]
    assert len(set(secret)) == 3


def test_no_baseline_image_comes_again_before_all_others_did(folder: Path) -> None:
    """Else whoever knows it again knows which one is the baseline's."""
    for seed in range(5):
        prompts = [pair.prompt for pair in in_order(blind.answers_in(folder), seed)]
        assert sorted(prompts[:COUNT]) == [*range(COUNT)]
        first = {pair.answer.digest for pair in in_order(blind.answers_in(folder), seed)[:COUNT]}
        assert len(first) == 2 or seed, "answers are mixed"


def test_nothing_is_shown_twice_after_a_restart(folder: Path) -> None:
    before = judge_all(session(folder), most=3)
    again = session(folder, seed=8)
    assert again.judged == 3
    after = judge_all(again, "b")
    assert {row[:2] for row in before}.isdisjoint(row[:2] for row in after)
    assert len(before) + len(after) == COUNT + COUNT // 2
    assert session(folder).shown() is None
    other = session(folder, judge="another")
    assert len(other.left) == COUNT + COUNT // 2, "another person judges all of them"


def test_undo_shows_the_pair_again(folder: Path) -> None:
    made = session(folder)
    made.undo()
    first = made.shown()
    made.say(first.name, "a")
    second = made.shown()
    made.undo()
    again = made.shown()
    assert again.pair == first.pair and again.first == first.first
    assert again.name != first.name and not set(again.images) & set(first.images)
    assert made.judged == 0 and preferences(folder / "journal", BASELINE) == {}
    made.say(again.name, "same")
    assert made.shown().pair == second.pair
    assert [row.verdict for row in rows(folder)][1:] == ["undone", "same"], "no line is lost"
    (found,) = preferences(folder / "journal", BASELINE).values()
    assert (found.better, found.same, found.worse) == (0, 1, 0)


def test_a_second_click_says_nothing_of_the_next_pair(folder: Path) -> None:
    made = session(folder)
    name = made.shown().name
    made.say(name, "a")
    made.say(name, "a")
    assert made.judged == 1 and len(rows(folder)) == 1


def test_an_image_that_cannot_be_read_is_left_out(folder: Path) -> None:
    (gated,) = blind.answers_in(folder, blind.Choice(accelerators=[("tgate",)]))
    gated.kept[0].write_bytes(b"RIFF")
    Image.new("RGB", (5, 5)).save(gated.kept[1])
    made = session(folder)
    assert len(judge_all(made)) == COUNT + COUNT // 2 - 2
    assert len(made.skipped) == 2 and any("no image of the size" in each for each in made.skipped)


# ---- the page ------------------------------------------------------------------------------------
@pytest.fixture
def served(folder: Path) -> Iterator[Server]:
    with serve(session(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def fetch(
    server: Server, path: str, body: Any = None, token: bool = True, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers without the date, content."""
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=20)
    own = {"X-Token": server.token} if token else {}
    method, text = ("GET", None) if body is None else ("POST", json.dumps(body))
    connection.request(method, path, text, own | headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    found = {name: value for name, value in answer.getheaders() if name != "Date"}
    return answer.status, found, content


def test_nothing_that_is_sent_tells_which_image_is_which(served: Server, folder: Path) -> None:
    """All pairs with the page and all that it fetches: names, headers, sizes, kinds of files."""
    _, _, html = fetch(served, "/")
    names: list[tuple[str, ...]] = []
    firsts = set()
    while True:
        _, _, content = fetch(served, "/pair", {})
        found = json.loads(content)
        if found["pair"] is None:
            break
        assert found.keys() == {"pair", "images", "prompt", "judged", "left", "undo"}
        shown = served.session.shown()
        firsts.add(shown.first)
        names.append((found["pair"], *found["images"]))
        (_, one, a), (_, other, b) = (fetch(served, path) for path in found["images"])
        assert one == other, "headers, the length among them"
        assert len(a) == len(b) and a != b
        images = [Image.open(io.BytesIO(each)) for each in (a, b)]
        assert [each.info for each in images] == [{}, {}], "no comment, no profile"
        assert images[0].size == images[1].size and images[0].mode == images[1].mode
        assert {chunk_names(each) for each in (a, b)} == {("IHDR", "IDAT", "IEND")}
        sent = html + content + str(one).encode()
        for word in (b"deepcache", b"tgate", b"cache_interval", b".webp", b"000.png", b"2.00x"):
            assert word not in sent, word
        served.session.say(found["pair"], "same")
    assert firsts == {"baseline", "accelerated"}
    every = [name for several in names for name in several]
    assert len(set(every)) == len(every), "each showing has names of its own"
    again = session(folder, judge="another").shown()
    assert not {f"/image/{name}" for name in again.images} & {*every}, "nor does the seed make them"


def chunk_names(png: bytes) -> tuple[str, ...]:
    """Of a PNG; several of the same after each other as one."""
    place, found = 8, []
    while place < len(png):
        length, name = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        found.append(name.decode())
        place += 12 + length
    return tuple(dict.fromkeys(found))


def test_both_images_went_through_the_same_coding(folder: Path) -> None:
    """An answer whose images are the baseline's, kept as answers are: the pixels are the same, so
    that the traces of the coding are no trace of which is which."""
    originals = folder / "baseline" / CONFIGURATION.slug
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(originals.glob("*.png"))])
    row = store.measurement(FAST, 2.0, 0.001)
    Gallery.beside(folder / "journal", BASELINE).keep_answer(BASELINE, row, pixels)
    fast = blind.answers_in(folder)[0]
    for pair in in_order([fast], 1):
        first, second = (np.asarray(each) for each in pair.images())
        assert np.array_equal(first, second) and not np.array_equal(first, pixels[pair.prompt])


def test_only_the_page_itself_may_say_something(served: Server, folder: Path) -> None:
    said = {"pair": served.session.shown().name, "said": "a"}
    assert fetch(served, "/say", said, token=False)[0] == 403
    assert fetch(served, "/say", said, Host="evil.example")[0] == 403
    assert fetch(served, "/", Host="evil.example")[0] == 403
    assert fetch(served, "/say", {**said, "said": "left"})[0] == 400
    assert fetch(served, "/say", [1])[0] == 400
    assert fetch(served, "/else", {})[0] == 403
    for path in ("/image/000.png", "/image/../results", "/journal", "/image/"):
        assert fetch(served, path)[0] == 404
    assert rows(folder) == []
    assert fetch(served, "/say", said)[0] == 200
    assert len(rows(folder)) == 1
    assert fetch(served, "/undo", {})[0] == 200
    assert rows(folder)[-1].verdict == "undone"


def test_it_is_for_this_machine_alone(served: Server) -> None:
    assert served.server_address[0] == "127.0.0.1" and served.address.startswith("http://127.")


def test_a_port_that_is_taken(served: Server) -> None:
    with pytest.raises(InputError, match=rf"port {served.server_port} cannot be had.*leave out"):
        serve(served.session, served.server_port)
    with pytest.raises(InputError, match="port 99999 cannot be had"):
        serve(served.session, 99999)


def test_the_table(folder: Path) -> None:
    made = session(folder)
    answers = blind.answers_in(folder)
    assert "not compared yet; " in "\n".join(blind.lines(answers, folder / "journal"))
    judge_all(made)
    text = "\n".join(blind.lines(answers, folder / "journal"))
    assert f"preferred in 50% of {COUNT} pairs" in text and "not compared yet" not in text
