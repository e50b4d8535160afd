"""Prompts are read from what users have, and what is wrong with a file is said."""

from __future__ import annotations

import re
import string
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffaccel.experiment.config import load
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.prompts import (
    PromptError,
    PromptLine,
    as_json,
    have_negatives,
    negatives_of,
    read_prompts,
    read_unseen,
    repeated,
    seeds_of,
    texts_of,
)
from diffaccel.store.jsonio import parse, to_json

PROMPTS = Path(__file__).parents[3] / "resources" / "prompts"
WANTED = ["a red cat", "a blue dog"]

READ = {
    "plain.txt": "# mine\n\na red cat\n  a   blue dog  \n",
    "no_ending": "a red cat\na blue dog\n",
    "bom_crlf.txt": "\ufeffa red cat\r\n\r\na blue dog\r\n",
    "hash_indented.txt": "  # not one\na red cat\na blue dog",
    "named.tsv": "Prompt\tCategory\tNote\na red cat\tAnimals\t\na blue dog\tAnimals\tx\n",
    "second.tsv": "id\tCAPTION\n1\ta red cat\n2\ta blue dog\n",
    "order.tsv": "caption\tprompt\nno\ta red cat\nno\ta blue dog\n",
    "only_column.tsv": "a red cat\na blue dog\n",
    "without_header.tsv": "1\ta red cat\tAnimals\n2\ta blue dog\tAnimals\n",
    "quoted.tsv": '\ufeff"text"\tn\r\n"a red\tcat"\t1\r\n"a blue dog"\t2\r\n',
    "objects.jsonl": '{"prompt": "a red cat", "id": 1}\n{"Text": "a blue dog"}\n',
    "strings.jsonl": '# mine\n"a red cat"\r\n\n"a\\nblue dog"\n',
    "OBJECTS.JSONL": '{"caption": "a red cat"}\n{"caption": "a blue dog"}',
}


@pytest.mark.parametrize("name", READ)
def test_every_format_gives_the_same_prompts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(READ[name].encode())
    assert read_prompts(path, 2) == WANTED
    assert read_prompts(path, 1) == WANTED[:1]
    assert read_prompts(path, 1, 9) == WANTED


def test_quotes_within_a_cell_stand_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "quotes.tsv"
    path.write_text('prompt\tn\n"Stop" on a red sign\t1\na "blue" dog\t2\n"say ""hi"""\t3\n')
    assert read_prompts(path, 3) == ['"Stop" on a red sign', 'a "blue" dog', 'say "hi"']


WRONG: dict[str, tuple[str | bytes, str]] = {
    "few.txt": ("a red cat\n", "has 1, and 2 are asked for; add some, or lower measure.prompts"),
    "empty.txt": ("# nothing\n", "has 0, and 2 are asked for"),
    "empty.tsv": ("", "has 0, and 2 are asked for"),
    "header.tsv": ("prompt\n", "has 0, and 2 are asked for"),
    "latin.txt": (b"caf\xe9\nbar\n", "not UTF-8 (byte 3)"),
    "table.csv": ("prompt\na red cat\n", ".csv is not read; give one prompt a line as text, .tsv"),
    "list.json": ('["a red cat", "a blue dog"]', ".json is not read"),
    "broken.jsonl": ('# a\n\n{"prompt": "a"}\n{"prompt": "b"\n', "line 4: not JSON (Expecting"),
    "other_key.jsonl": ('{"title": "a red cat"}\n"b"\n', "line 1: neither a string nor an object"),
    "number.jsonl": ('"a red cat"\n{"prompt": 7}\n', "line 2: neither a string nor an object"),
    "blank.jsonl": ('"a red cat"\n{"prompt": " "}\n', "line 2: the prompt is empty"),
    "blank.tsv": ("n\tprompt\n1\ta red cat\n2\t\n", "line 3: the prompt is empty"),
    "short_row.tsv": ("n\tprompt\n1\ta red cat\n2\n", "line 3: has no column 2"),
    "unclosed.tsv": ('prompt\n"a red cat\na blue dog\n', "line 2: a quote is not closed"),
    "seed.jsonl": (
        '{"prompt": "a", "seed": -1}\n"b"',
        "line 1: seed must be a whole number from 0",
    ),
    "seed.tsv": ("prompt\tseed\na\t1\nb\t1.5\n", "line 3: seed must be a whole number from 0 to "),
    "negative.jsonl": (
        '{"prompt": "a", "negative_prompt": 3}',
        "line 1: negative_prompt must be a",
    ),
    "late.jsonl": (
        '# \n"a"\n{"prompt": "b", "negative_prompt": "c"}',
        "line 3: has a negative_prompt, and line 2 has none: give all of them one, which may be",
    ),
    "width.tsv": (
        "prompt\tWidth\na\t64\nb\t64\n",
        "line 2: has a width, and all images of a model are of one size: make an entry under",
    ),
    "height.jsonl": ('{"prompt": "a", "height": 64}\n"b"', "line 1: has a height, and all images"),
    "other_header.tsv": (
        "id\tdescription\n1\ta red cat\n2\ta blue dog\n",
        "no column is named prompt, text, caption (line 1 is ['id', 'description'])",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    content, says = WRONG[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PromptError) as caught:
        read_prompts(path, 2)
    assert str(caught.value).startswith(f"prompts {path}: {says}")


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"nowhere\.txt: there is no such file"):
        read_prompts(tmp_path / "nowhere.txt", 1)
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path, 1)


def test_what_is_not_asked_for_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('"a red cat"\n"a blue dog"\n"one more"\nbroken\n')
    assert read_prompts(path, 2) == WANTED


WORDS = st.text(string.ascii_letters + '"é#,;', min_size=1, max_size=6)


@given(st.lists(st.lists(WORDS, min_size=2, max_size=5).map(" ".join), min_size=1, max_size=5))
def test_a_table_that_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("table") / "prompts.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["n", "prompt"])
        table.writerows(enumerate(prompts))
    assert read_prompts(path, len(prompts)) == prompts


SAID = {
    "a.tsv": "Prompt\tnegative_prompt\tSEED\na\tblurry,  dark\t7\nb\t\t\nc\tdim\n",
    "a.jsonl": (
        '{"prompt": "a", "negative_prompt": "blurry,\\tdark", "seed": 7}\n{"text": "b"}\n'
        '{"caption": "c", "negative_prompt": "dim", "seed": null}\n'
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_line_may_say_a_negative_prompt_and_a_seed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(SAID[name])
    found = read_prompts(path, 3)
    assert found == [
        PromptLine("a", "blurry, dark", 7),
        PromptLine("b", ""),
        PromptLine("c", "dim"),
    ]
    assert texts_of(found) == ["a", "b", "c"]
    assert seeds_of(found, 100) == [7, 101, 102]
    assert negatives_of(found, None) == ["blurry, dark", "", "dim"]
    assert negatives_of(found, "bad") == ["blurry, dark", "bad", "dim"]
    assert parse(list[PromptLine | str], as_json(found), "again") == found


def test_texts_alone_are_what_they_were() -> None:
    assert as_json(["a", "b"]) == ["a", "b"]
    assert negatives_of(["a", "b"], None) is None
    assert negatives_of(["a", "b"], "bad") == ["bad", "bad"]
    assert seeds_of(["a", "b"], 3) == [3, 4]


def test_seeds_alone_are_no_negative_prompts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n{"prompt": "b", "seed": 5}\n')
    found = read_prompts(path, 2)
    assert found == ["a", PromptLine("b", seed=5)] and not have_negatives(found)
    assert as_json(found) == ["a", {"prompt": "b", "seed": 5}]


def test_unseen_prompts_have_negative_prompts_where_those_seen_have(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n{"prompt": "b", "seed": 5}\n"c"\n')
    assert read_unseen(path, 9, ["a"]) == [PromptLine("b", seed=5), "c"]
    seen = [PromptLine("a", "dim", 9)]
    assert read_unseen(path, 9, seen) == [PromptLine("b", "", 5), PromptLine("c", "")]


def shipped(name: str) -> list[str]:
    lines = (PROMPTS / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def words(prompt: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", prompt.lower()))


REAL = ("real.txt", "real-heldout.txt")


@pytest.mark.parametrize("name", REAL)
def test_the_shipped_sets_are_whole(name: str) -> None:
    prompts = shipped(name)
    assert len(prompts) >= 128
    assert read_prompts(PROMPTS / name, len(prompts)) == prompts


def test_no_prompt_comes_twice_or_nearly_so_in_or_between_the_sets() -> None:
    every = [words(prompt) for name in REAL for prompt in shipped(name)]
    overlaps = [len(a & b) / len(a | b) for a, b in combinations(every, 2)]
    assert max(overlaps) < 0.5


@pytest.mark.parametrize("name", REAL)
def test_lengths_vary_within_what_clip_reads(name: str) -> None:
    """CLIP reads 77 tokens, two of them its own. Longest of these: 59, by its own tokenizer."""
    prompts = shipped(name)
    lengths = [len(prompt.split()) for prompt in prompts]
    assert min(lengths) == 4
    assert 45 <= max(lengths) <= 50
    pieces = [len(re.findall(r"\w+|[^\w\s]", prompt)) for prompt in prompts]
    assert max(pieces) < 65
    for start in range(0, len(lengths), 16):
        part = lengths[start : start + 16]
        assert min(part) <= 8
        assert max(part) >= 24


NUMBERS = {
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
}


@pytest.mark.parametrize("name", REAL)
def test_every_sixteen_hold_a_count_and_a_poster(name: str) -> None:
    """Signs of the mixed order that need no judgement: the first prompts are like the whole."""
    prompts = [words(prompt) for prompt in shipped(name)]
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        assert any(prompt & NUMBERS for prompt in part), start
        assert any(prompt & {"poster", "print"} for prompt in part), start


def test_unseen_prompts_are_what_else_there_is(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a\nb\n# c\nd\ne\ne\n f  g \n")
    assert read_unseen(path, 2, ["a", "b"]) == ["d", "e"]
    assert read_unseen(path, 9, ["a", "e"]) == ["b", "d", "f g"]  # no more
    assert read_unseen(path, 0, ["a"]) == []
    assert read_unseen(path, 3, ["a", "b", "d", "e", "f g"]) == []
    with pytest.raises(PromptError, match="there is no such file"):
        read_unseen(tmp_path / "none.txt", 1, [])


def test_prompts_are_repeated_with_other_seeds() -> None:
    """One after the other, so that whoever looks at some of the images has all of their prompts."""
    prompts = ["a", PromptLine("b", seed=7), PromptLine("c", negative_prompt="x")]
    again = repeated(prompts, 2)
    assert texts_of(again) == ["a", "a", "b", "b", "c", "c"]
    assert seeds_of(again, 10) == [10, 11, 7, 8, 14, 15]
    assert repeated(prompts, None) == prompts


@pytest.mark.parametrize(
    ("scheduler", "asked", "images"),
    [("DDIM", None, 8), ("Euler a", None, 16), ("Euler a", 1, 8), ("DDIM", 3, 24)],
)
def test_a_sampler_with_noise_has_several_images_a_prompt(
    scheduler: str, asked: int | None, images: int
) -> None:
    measure = {"prompts": 8, **({} if asked is None else {"seeds": asked})}
    experiment = Experiment(load({"schedulers": [scheduler], "measure": measure}))
    (configuration,) = experiment.configurations.values()
    options = experiment.options_for(configuration)
    assert options.images == images
    assert ("seeds" in to_json(options)) is (images != 8), "records of before say nothing of it"
