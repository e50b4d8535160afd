"""Task sentences: the exact forms, what people write instead, and what must be refused."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffaccel.experiment.limits import Limit
from diffaccel.experiment.plan import Experiment
from diffaccel.experiment.schema import Config
from diffaccel.experiment.tasks import Category, Request, TaskError, parse, read_tasks, sentence
from diffaccel.experiment.tasks.reading import fold
from diffaccel.plugins.accelerators import ACCELERATORS, combination
from diffaccel.plugins.schedulers import SCHEDULERS

MODELS = ("SD1.5", "SD2.1", "SDXL", "mini-SD1.5", "mini-SD2.1", "mini-SDXL")
FIRST_VERSION = Path(__file__).parents[3] / "resources/tasks/first-version.txt"
COMBINATIONS = [
    tuple(names)
    for size in range(1, len(ACCELERATORS) + 1)
    for names in itertools.combinations(sorted(ACCELERATORS), size)
]

plain = {
    "model": st.sampled_from(MODELS),
    "scheduler": st.sampled_from(list(SCHEDULERS)),
    "steps": st.integers(1, 1000),
}
accelerated = {
    **plain,
    "accelerators": st.sampled_from(COMBINATIONS),
    "max_loss": st.none() | st.floats(1e-9, 1, exclude_max=True) | st.just(0.02),
}
speedups = st.floats(1, 1e6) | st.sampled_from([1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0, 9.0])
platforms = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True) | st.sampled_from(
    # Names that hold words of a sentence, or numbers of it.
    ["cpu", "nvidia-h100-80gb-hbm3", "0x", "2-fold", "4x-gpu", "up-to-the-max", "a", "1-s", "loss"]
)
in_time = {
    **accelerated,
    "accelerators": st.just(()) | accelerated["accelerators"],
    "platform": platforms,
    "latency_s": st.floats(1e-6, 1e6) | st.sampled_from([0.35, 1.0, 12.5]),
}
shares = st.floats(1e-6, 0.99) | st.just(0.05)
limits = st.lists(
    st.one_of(
        st.builds(Limit, st.sampled_from(["lpips", "dists"]), st.just("most"), shares),
        st.builds(Limit, st.sampled_from(["ms_ssim", "ssim"]), st.just("least"), shares),
        st.builds(Limit, st.just("psnr"), st.just("least"), st.floats(0.1, 99)),
        st.builds(
            Limit,
            st.sampled_from(["clip_iqa", "pick_score", "hpsv2", "scene_right"]),
            st.sampled_from(["loss", "drop"]),
            shares,
        ),
    ),
    max_size=3,
    unique_by=lambda limit: limit.metric,
).map(lambda found: tuple(sorted(found, key=lambda limit: limit.metric)))
requests = st.one_of(
    st.builds(Request, **plain),
    st.builds(Request, **accelerated, limits=limits),
    st.builds(Request, **accelerated, speedup=speedups, limits=limits),
    st.builds(Request, **in_time, limits=limits),
)


@given(requests)
def test_what_is_written_is_read_back(request: Request) -> None:
    assert parse(sentence(request), MODELS) == request


@given(requests, st.booleans(), st.booleans())
def test_case_and_the_word_sampler_do_not_matter(
    request: Request, shout: bool, sampler: bool
) -> None:
    text = sentence(request) if sampler else sentence(request).replace(" sampler", "")
    assert parse(text.upper() if shout else text.lower(), MODELS) == request


def category(request: Request) -> int:
    """Of the five kinds, said in another way than the code does."""
    if request.platform:
        return 5
    return 4 if request.speedup else min(1 + len(request.accelerators), 3)


@given(requests)
def test_every_request_is_of_one_of_the_five_categories(request: Request) -> None:
    assert request.category == category(request)
    assert (request.category == Category.LATENCY) is (" seconds per image" in sentence(request))
    assert (request.category == Category.SPEEDUP) is ("x speedup" in sentence(request))


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (
            "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps",
            Request("SD1.5", "DDIM", 50),
        ),
        (
            "Generate a SD2.1 pipeline using the DDIM sampler with 20 steps, accelerated by ToMe "
            "with precision loss not exceeding 0.02",
            Request("SD2.1", "DDIM", 20, ("tome",), max_loss=0.02),
        ),
        (
            "Generate a SD2.1 pipeline using the DDIM sampler with 20 steps, accelerated by "
            "DeepCache and T-Gate",
            Request("SD2.1", "DDIM", 20, ("deepcache", "tgate")),
        ),
        (
            "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps, running on "
            "nvidia-h100-80gb-hbm3 in at most 0.35 seconds per image with precision loss not "
            "exceeding 0.02",
            Request(
                *("SD1.5", "DDIM", 50),
                max_loss=0.02,
                platform="nvidia-h100-80gb-hbm3",
                latency_s=0.35,
            ),
        ),
        (
            "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps, accelerated by "
            "DeepCache with 3.04x speedup and precision loss not exceeding 0.02",
            Request("SD1.5", "DDIM", 50, ("deepcache",), 3.04, 0.02),
        ),
        (
            "Generate a SD1.5 pipeline using the DPM-Solver++ with 20 steps, accelerated by "
            "T-Gate with 1.44x speedup and precision loss not exceeding 0.02",
            Request("SD1.5", "DPM-Solver++", 20, ("tgate",), 1.44, 0.02),
        ),
        (
            "Generate a SDXL pipeline using the UniPCMultistepScheduler sampler with 25 steps, "
            "accelerated by DeepCache, T-Gate, and ToMe with 2.5x speedup",
            Request("SDXL", "UniPCMultistepScheduler", 25, ("deepcache", "tgate", "tome"), 2.5),
        ),
    ],
)
def test_the_exact_forms(text: str, request_: Request) -> None:
    assert parse(text, MODELS) == request_
    assert sentence(request_).replace(" sampler", "") == text.replace(" sampler", "")


def test_a_round_speedup_keeps_its_decimal() -> None:
    text = sentence(Request("SD1.5", "DDIM", 50, ("tome",), 3, 0.02))
    assert " 3.0x speedup and precision loss not exceeding 0.02" in text


PARTS = {
    "model": "Generate a SD1.5 pipeline",
    "scheduler": "using the DPM-Solver++ sampler",
    "steps": "with 20 steps,",
    "accelerators": "accelerated by DeepCache and ToMe",
    "speedup": "with 3.0x speedup",
    "max_loss": "and precision loss not exceeding 0.02",
}
MEANT = Request("SD1.5", "DPM-Solver++", 20, ("deepcache", "tome"), 3.0, 0.02)
TIMED_PARTS = {
    **{name: words for name, words in PARTS.items() if name != "speedup"},
    "platform": "running on nvidia-h100-80gb-hbm3",
    "latency_s": "in at most 0.35 seconds per image",
    "max_loss": "with precision loss not exceeding 0.02",
}
TIMED = dataclasses.replace(MEANT, speedup=None, platform="nvidia-h100-80gb-hbm3", latency_s=0.35)
VARIANTS = {
    "model": [
        "Generate an SD 1.5 pipeline",
        "generate a sd-1.5 pipeline",
        "Create the Stable Diffusion 1.5 pipeline",
        "Generate a Stable Diffusion v1.5 pipeline",
        "Generate a stable-diffusion-v1-5 pipeline",
        "Generate a stable-diffusion-v1-5/stable-diffusion-v1-5 pipeline",
        "Please generate an SD1.5 pipeline",
        "could you please make me a SD1.5 pipeline",
    ],
    "scheduler": [
        "using the DPM++ sampler",
        "using DPM++",
        "using the DPM-Solver",
        "using the dpm solver++ scheduler",
        "using the DPMSolverMultistepScheduler",
        "with the DPM++ 2M sampler",
        "w/ the DPM++ scheduler",
        "w/DPM++ sampler",
    ],
    "steps": [
        *("in 20 steps,", "with 20 inference steps", "and 20 sampling steps,", "at 20-step"),
        *("(20 steps)", "w/ 20 steps"),
    ],
    "accelerators": [
        "accelerated by ToMe & DeepCache",
        "accelerated by DeepCache + ToMe",
        "accelerated with tomesd, deepcache",
        "accelerated by DeepCache, and ToMe",
        "sped up using deep cache and TOME",
    ],
    "speedup": [
        "with 3x speedup",
        "with a 3.00 x speed-up",
        "to 3 times",
        "with a speedup of 3",
        "with a speedup of at least 3x",
        "with a speedup >= 3x",
        "at least 3x faster",
        "with 3-fold speedup",
        "with 3\N{MULTIPLICATION SIGN} speed up",
    ],
    "max_loss": [
        "and precision loss not exceeding 2%",
        "and a loss of at most 2 %",
        "with loss below 2 percent",
        "and less than 2% loss",
        ", loss < .02",
        "and score loss <= 0.02.",
        "and a quality loss limit of 2e-2",
    ],
    "platform": [
        "on nvidia-h100-80gb-hbm3",
        "that runs on an NVIDIA H100 80GB HBM3",
        "on the Nvidia H100-80GB_HBM3,",
    ],
    "latency_s": [
        "in 0.35 s per image",
        "in under 350 ms per image",
        "taking at most .35 sec/image",
        "with a latency of at most 350 milliseconds",
        "with a per-image latency below 0.350s",
        "and latency per image <= 3.5e-1 seconds",
        "with a latency limit of 0.35 s for each image",
        "within 0.35 seconds latency",
        "that takes at most 0.35 s per image",
        "taking no longer than 350ms an image",
    ],
}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("sped up 3 times by ToMe and DeepCache", []),
        ("sped up by ToMe and DeepCache 3 times", []),
        ("sped up 3x with ToMe and DeepCache", []),
    ],
)
def test_a_speedup_may_stand_before_what_speeds_up(text: str, missing: list[str]) -> None:
    start = "Please generate a SD1.5 pipeline w/ the DPM++ scheduler (20 steps)"
    assert parse(f"{start}, {text}, loss below 2%", MODELS) == MEANT


def test_what_is_wrong_is_short_and_the_rest_follows() -> None:
    text = "Generate a SD1.5 pipeline using the DDIM sampler quickly"
    with pytest.raises(TaskError) as caught:
        parse(text, MODELS)
    first, *rest = str(caught.value).splitlines()
    assert (
        first == "cannot read the task: not understood: 'quickly'; no steps given (e.g. 50 steps)"
    )
    assert rest[0] == f"The task: {text!r}" and rest[1].startswith("Understood: model SD1.5, ")
    assert rest[2].startswith("A task reads: Generate a {model} pipeline")


SPEED_FIELDS = ("model", "scheduler", "steps", "accelerators", "speedup", "max_loss")
TIMED_FIELDS = tuple(name for name in VARIANTS if name != "speedup")


def values(request: Request, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(request, name) for name in names}


@pytest.mark.parametrize(
    ("field", "words"), [(field, words) for field in VARIANTS for words in VARIANTS[field]]
)
def test_what_people_write_instead(field: str, words: str) -> None:
    parts, meant = (PARTS, MEANT) if field in PARTS else (TIMED_PARTS, TIMED)
    assert parse(" ".join({**parts, field: words}.values()), MODELS) == meant


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        (("model", "scheduler", "steps"), Request("SD1.5", "DPM-Solver++", 20)),
        (SPEED_FIELDS[:4], Request("SD1.5", "DPM-Solver++", 20, ("deepcache", "tome"))),
        (SPEED_FIELDS, MEANT),
        (TIMED_FIELDS, TIMED),
        (
            tuple(name for name in TIMED_FIELDS if name != "accelerators"),
            dataclasses.replace(TIMED, accelerators=()),
        ),
    ],
)
@given(data=st.data())
def test_any_mixture_of_that_in_any_order(
    fields: tuple[str, ...], meant: Request, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(fields))
    words = [data.draw(st.sampled_from(VARIANTS[name])) for name in order]
    assert parse(" ".join(words), MODELS) == meant


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("Stable Diffusion XL", "SDXL"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "SDXL"),
        ("stabilityai/stable-diffusion-2-1", "SD2.1"),
        ("mini Stable Diffusion XL", "mini-SDXL"),
        ("MINI SD1.5", "mini-SD1.5"),
    ],
)
def test_long_names_of_models(given_name: str, meant: str) -> None:
    words = PARTS | {"model": f"Generate a {given_name} pipeline"}
    assert parse(" ".join(words.values()), MODELS).model == meant


def test_a_name_that_fits_two_models_must_be_exact() -> None:
    models = ("my-model", "my_model")
    words = PARTS | {"model": "Generate a my_model pipeline"}
    assert parse(" ".join(words.values()), models).model == "my_model"
    words["model"] = "Generate a My Model pipeline"
    with pytest.raises(TaskError, match="may be any of my-model, my_model"):
        parse(" ".join(words.values()), models)


@pytest.mark.parametrize("names", [MODELS, tuple(SCHEDULERS)])
def test_no_two_known_names_are_read_alike(names: tuple[str, ...]) -> None:
    assert len({fold(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("parts", "field"),
    [(PARTS, name) for name in SPEED_FIELDS[:4]]
    + [(TIMED_PARTS, name) for name in ("model", "scheduler", "steps", "platform", "latency_s")],
)
def test_a_missing_part_is_named(parts: dict[str, str], field: str) -> None:
    words = [words for name, words in parts.items() if name != field]
    with pytest.raises(TaskError, match=f"no {field} given") as caught:
        parse(" ".join(words), MODELS)
    assert caught.value.missing == [field]
    meant = MEANT if parts is PARTS else TIMED
    assert caught.value.understood == values(meant, [name for name in parts if name != field])


def test_a_loss_of_nothing_accelerated_is_refused() -> None:
    words = [PARTS[name] for name in ("model", "scheduler", "steps", "max_loss")]
    with pytest.raises(TaskError, match=r"no accelerators given \(known: torch.compile"):
        parse(" ".join(words), MODELS)


def test_a_speedup_and_a_latency_are_too_much() -> None:
    with pytest.raises(TaskError, match="cannot be asked for in one task") as caught:
        parse(" ".join((PARTS | TIMED_PARTS).values()), MODELS)
    assert caught.value.missing == []


@pytest.mark.parametrize(
    ("field", "words", "message"),
    [
        ("model", "Generate a SD1.4 pipeline", "unknown model 'SD1.4': did you mean 'SD1.5'?"),
        ("scheduler", "using the DDIN sampler", "unknown scheduler 'DDIN': did you mean 'DDIM'?"),
        ("scheduler", "using the Foo sampler", "Known: DDIM, DDPM, DEIS"),
        ("accelerators", "accelerated by DeepCash", "did you mean 'DeepCache'? Known: torch.comp"),
        ("accelerators", "accelerated by ToMe and ToMe", "several different ones"),
        ("accelerators", "accelerated by ,", "one accelerator or several"),
        ("steps", "with 0 steps", "between 1 and 1000, not 0"),
        ("steps", "with -5 steps", "between 1 and 1000, not -5"),
        ("steps", "with 1001 steps", "between 1 and 1000, not 1001"),
        ("steps", "with 20.5 steps", "a whole number, not 20.5"),
        ("steps", "with 1e999 steps", "a whole number, not 1e999"),
        ("speedup", "with 0.9x speedup", "1 or more, not 0.9"),
        ("speedup", "with -2x speedup", "1 or more, not -2.0"),
        ("speedup", "with 1e999x speedup", "1 or more, not inf"),
        (
            "max_loss",
            "and precision loss not exceeding 0",
            "between 0 and 1, e.g. 0.02 or 2%, not 0",
        ),
        ("max_loss", "and precision loss not exceeding 2", "not 2.0"),
        ("max_loss", "and precision loss not exceeding 100%", "not 1.0"),
        ("max_loss", "and precision loss not exceeding -0.1", "not -0.1"),
        ("latency_s", "in 0 s per image", "above 0 seconds per image, not 0.0"),
        ("latency_s", "in -3 ms per image", "not -0.003"),
        ("latency_s", "in 1e999 seconds per image", "not inf"),
        ("platform", "on ++", "as in results/<platform>, e.g. cpu, not ''"),
        ("max_loss", "and memory below 4 GB", "not understood: 'and memory below 4 GB'"),
        ("max_loss", "and precision loss not exceeding nothing", "not understood"),
    ],
)
def test_what_is_wrong_is_said(field: str, words: str, message: str) -> None:
    parts, meant = (PARTS, MEANT) if field in PARTS else (TIMED_PARTS, TIMED)
    with pytest.raises(TaskError) as caught:
        parse(" ".join({**parts, field: words}.values()), MODELS)
    assert message in str(caught.value)
    assert caught.value.understood == values(meant, [name for name in parts if name != field])


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = "Generate a SD9 pipeline using the Foo sampler with 0 steps, accelerated by Magic on cpu"
    with pytest.raises(TaskError) as caught:
        parse(text, MODELS)
    for words in ("'SD9'", "'Foo'", "not 0", "'Magic'", "no latency_s given", text):
        assert words in str(caught.value)
    assert caught.value.missing == ["latency_s"]
    assert caught.value.understood == {"platform": "cpu"}


WORDS = " ".join((PARTS | TIMED_PARTS).values()).split()


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        request = parse(text, MODELS)
    except TaskError as error:
        assert repr(text) in str(error)
    else:
        assert parse(sentence(request), MODELS) == request


@pytest.mark.parametrize(
    "change",
    [
        {"speedup": 0.5},
        {"speedup": float("nan")},
        {"steps": 0},
        {"max_loss": 1.0},
        {"accelerators": ("tome", "deepcache")},
        {"accelerators": ()},
        {"speedup": None, "accelerators": ()},
        {"latency_s": 1.0, "platform": "cpu"},
        {"speedup": None, "latency_s": 1.0},
        {"speedup": None, "platform": "cpu"},
        {"speedup": None, "latency_s": 0.0, "platform": "cpu"},
        {"speedup": None, "latency_s": 1.0, "platform": "My GPU"},
    ],
)
def test_a_request_checks_its_bounds(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not|no \w+ given"):
        dataclasses.replace(MEANT, **change)


@pytest.mark.parametrize(
    "text",
    ["loss " + "<=" * 400, "generate a " * 90, "1" * 1000, "at most " * 120, "3x speedup >= " * 70],
)
def test_what_patterns_could_run_away_on_is_refused(text: str) -> None:
    """Backtracking over these would not end within a lifetime."""
    with pytest.raises(TaskError, match="no model given"):
        parse(text, MODELS)


def test_no_sentence_is_that_long() -> None:
    with pytest.raises(TaskError, match="1000 characters at most, not 1000000"):
        parse("x" * 1_000_000, MODELS)


def test_the_users_own_tasks_are_of_any_category_with_accelerators(tmp_path: Path) -> None:
    start = "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps"
    lines = [
        f"{start}, accelerated by DeepCache with 3x speedup",
        f"{start}, accelerated by DeepCache and ToMe with precision loss not exceeding 0.01",
        f"{start}, accelerated by DeepCache, running on cpu in at most 1.5 seconds per image",
        f"{start}, accelerated by DeepCache, running on nvidia-h100 in at most 2 seconds per image",
        start,
    ]
    path = tmp_path / "tasks.txt"
    path.write_text("\n".join(lines))
    made = Experiment(Config(tasks_file=str(path), platform="cpu")).user_tasks
    speedup, fastest, latency, elsewhere, plain = made
    assert (speedup.required, speedup.latency_s, speedup.fastest) == (3.0, None, False)
    assert fastest.fastest and fastest.cell is not None and fastest.max_loss == 0.01
    assert fastest.cell.accelerators == ("deepcache", "tome")
    assert (latency.required, latency.latency_s, latency.fastest) == (None, 1.5, False)
    assert (
        elsewhere.cell is None
        and "for nvidia-h100, and what is measured here is for cpu" in str(elsewhere.problem)
    )
    assert plain.cell is None and "no accelerators given (category 1)" in str(plain.problem)


def test_titles_of_all_combinations_are_read() -> None:
    for names in COMBINATIONS:
        words = PARTS | {"accelerators": f"accelerated by {combination(names).title}"}
        assert parse(" ".join(words.values()), MODELS).accelerators == names


def test_the_first_versions_tasks() -> None:
    parsed = [parse(text, MODELS) for _, text in read_tasks(FIRST_VERSION)]
    assert parsed == [
        Request("SD1.5", "DDIM", 50, ("deepcache",), 3.04, 0.02),
        Request("SD1.5", "DPM-Solver++", 50, ("deepcache",), 3.05, 0.02),
        Request("SD1.5", "UniPCMultistepScheduler", 50, ("deepcache",), 3.04, 0.02),
        Request("SD1.5", "DDIM", 50, ("tome",), 1.3, 0.02),
        Request("SD1.5", "DPM-Solver++", 20, ("tgate",), 1.44, 0.02),
    ]
    assert [sentence(request) for request in parsed] == [
        text for _, text in read_tasks(FIRST_VERSION)
    ]


def test_comments_and_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_bytes(b"\xef\xbb\xbf# first\r\n\r\n one  # why\r\n\ttwo\r\n#three\r\nfour#4")
    assert read_tasks(path) == [(3, "one"), (4, "two"), (6, "four#4")]


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"absent\.txt: No such file"):
        read_tasks(tmp_path / "absent.txt")
    with pytest.raises(TaskError, match="cannot read"):
        read_tasks(tmp_path)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Schr\N{LATIN SMALL LETTER O WITH DIAERESIS}der".encode("latin-1"))
    with pytest.raises(TaskError, match=r"latin\.txt is not UTF-8 text \(byte 4\)"):
        read_tasks(latin)


def test_the_loss_clause_is_left_out_without_a_limit() -> None:
    words = "precision loss"
    assert words in sentence(MEANT)
    unlimited = Request("SD1.5", "DDIM", 50, ("tome",), 2.0)
    assert words not in sentence(unlimited)
    assert sentence(unlimited).endswith("with 2.0x speedup")


SENTENCE = (
    "Generate a SD1.5 pipeline using the DDIM sampler with 50 steps, accelerated by DeepCache"
)


def test_limits_of_other_metrics_have_their_exact_words() -> None:
    text = (
        f"{SENTENCE} with 2.0x speedup, LPIPS not exceeding 0.05, PickScore loss not exceeding "
        "0.01, PSNR not below 35.0 and precision loss not exceeding 0.02"
    )
    request = parse(text, MODELS)
    assert [each.words for each in request.limits] == [
        "lpips at most 0.05", "pick_score 1% loss", "psnr at least 35"
    ]  # fmt: skip
    assert (request.speedup, request.max_loss) == (2.0, 0.02)
    assert sentence(request) == text
    assert sentence(parse(f"{SENTENCE} with SSIM not below 0.9", MODELS)).endswith(
        "DeepCache with SSIM not below 0.9"
    )


@pytest.mark.parametrize(
    ("clause", "words"),
    [
        ("lpips <= .05", "lpips at most 0.05"),
        ("an LPIPS of at most 0.05", "lpips at most 0.05"),
        ("MS SSIM at least 0.95", "ms_ssim at least 0.95"),
        ("pick-score loss below 1%", "pick_score 1% loss"),
        ("scene_right drop of at most 0.05", "scene_right 0.05 less"),
        ("PSNR no less than 30", "psnr at least 30"),
        ("psnr: >= 30", "psnr at least 30"),
    ],
)
def test_what_people_write_of_limits(clause: str, words: str) -> None:
    for text in (f"{SENTENCE} with {clause}", f"{SENTENCE} with 2x speedup and {clause}, loss 2%"):
        assert [each.words for each in parse(text, MODELS).limits] == [words]


@pytest.mark.parametrize(
    ("clause", "says"),
    [
        ("PSNR at most 30", "higher is better: say `at least`"),
        ("PSNR loss not exceeding 0.1", "compares with the baseline's image"),
        ("SSIM at least 90%", "only a loss is given in percent"),
        ("PickScore loss at least 1%", "say at most how large the loss is"),
        ("PSNR at least 30 and PSNR at least 35", "one limit a metric, not several of psnr"),
        ("PSNR 30", "not understood: 'with PSNR 30'"),
        ("CLIP score at least 70", "not understood"),
        ("FID at most 10", "not understood"),
    ],
)
def test_limits_that_cannot_be(clause: str, says: str) -> None:
    with pytest.raises(TaskError) as error:
        parse(f"{SENTENCE} with {clause}", MODELS)
    assert says in str(error.value).splitlines()[0]


def test_the_clip_score_is_the_precision() -> None:
    for words in ("CLIP score loss", "clip_score loss", "CLIP-score loss", "precision loss"):
        assert parse(f"{SENTENCE} with {words} not exceeding 0.03", MODELS).max_loss == 0.03


def test_a_users_task_has_its_own_limits_beside_those_that_are_configured(tmp_path: Path) -> None:
    mini = SENTENCE.replace("SD1.5", "mini-SD1.5")
    (tmp_path / "tasks.txt").write_text(
        f"{mini} with PSNR not below 35\n{mini} with 2x speedup\n"
        f"{mini} with HPSv2 loss not exceeding 0.01\n{mini} with ms_ssim at least 0.9\n"
    )
    config = Config(tasks_file=str(tmp_path / "tasks.txt"), limits="same", models=["mini-SD1.5"])
    experiment = Experiment(config)
    own, usual, lacking, new = experiment.user_tasks
    assert [each.words for each in own.limits or ()] == ["psnr at least 35", "ssim at least 0.9"]
    assert usual.limits is None
    assert lacking.cell is None and "hpsv2 needs a source" in (lacking.problem or "")
    assert [each.metric for each in new.limits or ()] == ["ms_ssim", "psnr", "ssim"]
    assert [each.name for each in experiment.specs["mini-SD1.5"].metrics] == ["ms_ssim"]
    assert experiment.specs["mini-SDXL"].metrics == ()
