"""What the accelerators lose with each sampler: candidates of each, on an embedded model.

record: evaluates them; what was evaluated stays, so that a stopped run goes on. report: writes
docs/experiments/samplers.md. Nothing is timed: a sampler takes next to no time of a call.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.markdown import table
from diffaccel.errors import InputError
from diffaccel.evaluation import bench as benches
from diffaccel.evaluation.baseline import run_baseline
from diffaccel.evaluation.calls import Bench, Candidate
from diffaccel.evaluation.candidates import evaluate
from diffaccel.evaluation.records import Baseline, Environment
from diffaccel.experiment.grid import Configuration
from diffaccel.experiment.options import MeasureOptions
from diffaccel.machine import devices
from diffaccel.plugins.accelerators import combination
from diffaccel.plugins.metrics import SCORE
from diffaccel.plugins.metrics.base import Images
from diffaccel.plugins.models import FAMILIES, ModelSpec, known_models
from diffaccel.plugins.schedulers import SCHEDULERS, is_stochastic, scheduler_named
from diffaccel.plugins.space import ParametersDict
from diffaccel.store.jsonio import parse, read_json, to_json, today, write_json

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).with_name("samplers.json")
NOTES = Path(__file__).with_name("samplers.md")
"""What the table shows, in words."""
PAGE = ROOT / "docs" / "experiments" / "samplers.md"
MODEL, STEPS, PROMPTS = "mini-SD1.5", 20, 64
NAMES = (*SCHEDULERS, "Euler Karras", "DPM++ 2M Karras", "DPM++ 2M SDE Karras", "Euler trailing")
CANDIDATES: dict[str, ParametersDict] = {
    "DeepCache 2": {"deepcache": {"cache_interval": 2, "cache_branch_id": 0}},
    "DeepCache 3": {"deepcache": {"cache_interval": 3, "cache_branch_id": 0}},
    "DeepCache 5": {"deepcache": {"cache_interval": 5, "cache_branch_id": 0}},
    "T-Gate 10": {"tgate": {"gate_step": 10, "sp_interval": 1, "fi_interval": 1, "warm_up": 0}},
    "ToMe 0.5": {"tome": {"ratio": 0.5, "max_downsample": 2}},
    "10 steps": {"fewer_steps": {"steps": 10}},
}


@dataclass(frozen=True)
class Row:
    """A candidate with a sampler.

    Args:
        loss: relative loss of CLIP score, with its interval.
        psnr: in dB, against the baseline's images.
        refused: why it cannot be, else empty.
    """

    loss: float
    low: float
    high: float
    psnr: float
    refused: str = ""


@dataclass(frozen=True)
class SamplerRecord:
    """All candidates with a sampler; ``score`` is the mean of the baseline's."""

    scheduler: str
    score: float
    rows: dict[str, Row]
    environment: Environment
    date: str


def measured(name: str, spec: ModelSpec, prompts: int, steps: int) -> SamplerRecord:
    """Evaluates the candidates with one sampler."""
    configuration = Configuration(spec.name, scheduler_named(name).name, steps)
    options = MeasureOptions(prompts=prompts)
    with contextlib.ExitStack() as stack:
        device = benches.take_device(stack, spec, devices.platform())
        bench = benches.open_bench(configuration, spec, options, device)
        baseline, images = run_baseline(bench)
        rows = {
            label: _row(bench, baseline, images, parameters)
            for label, parameters in CANDIDATES.items()
        }
    scores = baseline.scores[SCORE]
    score = sum(scores) / len(scores)
    return SamplerRecord(configuration.scheduler, score, rows, baseline.environment, today())


def _row(bench: Bench, baseline: Baseline, images: Images, parameters: ParametersDict) -> Row:
    ok, reason = combination(sorted(parameters)).supports(bench.pipeline)
    if not ok:
        return Row(0.0, 0.0, 0.0, 0.0, reason)
    candidate = Candidate(parameters, lambda: bench.accelerated(parameters))
    found = evaluate(bench, baseline, images, candidate)
    if found.failure:
        raise InputError(f"{bench.configuration.slug}: {parameters}: {found.failure}")
    return Row(found.loss, *found.loss_interval, found.means["psnr"])


def read() -> dict[str, SamplerRecord]:
    """What was measured, by sampler."""
    if not DATA.exists():
        return {}
    listed = read_json(DATA)["samplers"]
    records = [parse(SamplerRecord, each, str(DATA)) for each in listed]
    return {record.scheduler: record for record in records}


def record(args: argparse.Namespace) -> None:
    """Evaluates what is not there."""
    spec = known_models()[MODEL]
    spec = replace(FAMILIES[spec.family].fetch(spec).spec, batch_size=args.batch_size)
    known = read()
    for name in args.names or NAMES:
        if scheduler_named(name).name not in known:
            found = measured(name, spec, args.prompts, args.steps)
            known[found.scheduler] = found
            rows = [to_json(known[each]) for each in sorted(known)]
            write_json(DATA, {"schema": 1, "samplers": rows})
            said = ", ".join(
                f"{label} {row.loss:+.1%}" for label, row in found.rows.items() if not row.refused
            )
            print(f"{found.scheduler}: {found.score:.1f}; {said}", flush=True)


def cell(row: Row) -> str:
    """Loss and PSNR; a loss whose interval has zero in it is in brackets."""
    if row.refused:
        return "refused"
    loss = f"{row.loss:+.1%}"
    return f"{f'({loss})' if row.low <= 0 <= row.high else loss} / {row.psnr:.1f}"


def report() -> str:
    """The page."""
    records = list(read().values())
    if not records:
        raise InputError(f"nothing was measured: there is no {DATA.name}")
    where = records[0].environment
    days = sorted({record.date[:10] for record in records})
    rows = [
        [
            f"`{each.scheduler}`",
            "yes" if is_stochastic(scheduler_named(each.scheduler)) else "",
            f"{each.score:.1f}",
            *(cell(each.rows[label]) for label in CANDIDATES),
        ]
        for each in sorted(records, key=lambda each: -each.score)
    ]
    span = " to ".join(dict.fromkeys((days[0], days[-1])))
    told = [
        "# What the accelerators lose with each sampler",
        "<!-- Made by `python -m benchmarks.samplers report` from benchmarks/samplers.json. -->",
        f"{MODEL}, {STEPS} steps, {PROMPTS} prompts, one image a prompt.[^how] Nothing was timed.",
        "`score` is the mean CLIP score of the baseline. The other cells have the relative loss of "
        "that score, and the PSNR in dB against the baseline's images. Brackets mark a loss whose "
        "95% interval contains zero. DeepCache has branch 0 and this interval, T-Gate this gate, "
        "ToMe this ratio.",
        table(["sampler", "own noise", "score", *CANDIDATES], rows, left=2),
        NOTES.read_text(encoding="utf-8").strip(),
        "[^how]: `python -m benchmarks.samplers record` (`--batch-size`: 32 prompts a call) on "
        f"one {where.device}, {where.dtype}, diffusers {where.versions['diffusers']}; {span}.",
    ]
    return "\n\n".join(told) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("names", nargs="*", help="samplers; default: all")
    recording.add_argument("--prompts", type=int, default=PROMPTS)
    recording.add_argument("--steps", type=int, default=STEPS)
    recording.add_argument("--batch-size", type=int, default=32)
    commands.add_parser("report")
    args = parser.parse_args()
    if args.command == "record":
        record(args)
    else:
        PAGE.write_text(report(), encoding="utf-8")
        print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
