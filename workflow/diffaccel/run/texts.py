"""What is said of a run in a line each: where it is, what is left, what failed."""

from __future__ import annotations

import os
import time

from diffaccel.machine.jobs import Job
from diffaccel.report.words import ONE, configuration_title, duration, named
from diffaccel.run.progress import Left, Progress, platform

MANY = {
    "models": "models",
    "baseline": "baselines",
    "search": "searches",
    "code": "scripts",
    "verify": "verifications",
    "speed": "speeds",
    "judge": "judged",
}


def left(estimate: Left) -> str:
    """The time that is left, as far as there is ground to say."""
    if not estimate.unknown:
        return f"about {duration(estimate.seconds or 0.0)}"
    words = [ONE[stage].removesuffix(" of") for stage in estimate.unknown]
    unknown = (
        f"unknown before a first {' and '.join(filter(None, [', '.join(words[:-1]), words[-1]]))}"
    )
    if estimate.seconds is None:
        return unknown
    return f"more than {duration(estimate.seconds)}; the rest {unknown}"


def head(progress: Progress) -> str:
    """What the run does, in a line."""
    on = f"on {platform(progress)}, {progress.host}"
    went = duration(progress.seconds)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(progress.since))
    if progress.state == "none":
        return f"nothing has run in {progress.store} yet; `diffaccel run` starts"
    if progress.state == "going":
        return f"running {on}, for {went}"
    if progress.state == "done":
        return f"done: a run {on}, of {began}, in {went}"
    if progress.state == "failed":
        return f"ended, and not all is made: a run {on}, of {began}, after {went}"
    still = f"; {len(progress.working)} of its jobs go on" if progress.working else ""
    return (
        f"killed: a run {on}, of {began}, after about {went}{still}. What was measured is kept: "
        "`diffaccel run` goes on from there"
    )


def best(progress: Progress) -> str:
    """The best so far, in a line."""
    found = progress.best
    if found is None:
        return "none yet"
    where = f"{found.accelerators} on {configuration_title(found.configuration)}"
    return f"{found.speedup:.2f}x, loss {found.loss:+.1%}: {where}"


def stages(progress: Progress) -> str:
    """Jobs done of all, by stage."""
    return ", ".join(
        f"{MANY[s.stage]} {s.done} of {s.total}{f' ({s.failed} failed)' if s.failed else ''}"
        for s in progress.stages
    )


def failure(job: Job) -> str:
    """What failed, why, and which log says more."""
    return f"{named(job.stage, job.name)}: {job.reason} (log: {job.log})"


def shortened(path: str) -> str:
    """A path from here on, where it lies below."""
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path
