"""What a run shows: in a terminal, in a file, and to `diffaccel status` while it goes on and after
it was killed. The runs are real ones; some measured all of it before."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import Finished, Project, again

CONFIGURATION = "mini-SD1.5_DDIM_8"
NOISE = ("Building DAG", "Provided cores", "localrule", "jobs to execute", "Finished jobid")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A run in a terminal of its own, 80 columns wide.

    Args:
        said: everything that it wrote.
    """

    process: subprocess.Popen[bytes]
    screen: int
    said: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)

    def wait(self, until: Callable[[], bool]) -> None:
        """Reads until something is so, or the run ends."""
        deadline = time.monotonic() + 300
        while not until():
            try:
                self.said += os.read(self.screen, 65536).decode(errors="replace")
            except OSError:  # nobody has it open any more
                break
            assert time.monotonic() < deadline, self.said
        if not until():
            self.process.wait(60)

    def end(self) -> int:
        """Reads to the end; the exit status."""
        self.wait(lambda: False)
        return self.process.wait(60)

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.said)


def terminal(project: Project, *arguments: str, **environment: str) -> Terminal:
    """A run that is given a terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))

    def take() -> None:
        os.setsid()
        ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "diffaccel", "run", "--cores", "1", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=project.folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TERM": "xterm-256color"} | environment,
        preexec_fn=take,
    )
    os.close(theirs)
    return Terminal(process, ours)


def status(project: Project, *flags: str) -> str:
    command = [sys.executable, "-m", "diffaccel", "status", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_no_terminal_gets_a_line_for_each_thing(finished: Finished) -> None:
    project, output = finished
    stamped = [line for line in output.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    # Of a machine that has one; and of one that is slow, which says how far it is.
    said = ("Slurm", "candidates measured")
    stamped = [line for line in stamped if not any(word in line for word in said)]
    assert [line.split()[1] for line in stamped] == [
        *("run", "model", "baseline", "searched", "verified")
    ]
    assert "1 cell; " in stamped[0] and "log: .snakemake/log/" in stamped[0]
    assert re.search(r"searched mini-SD1.5, DDIM, 8 steps in .*: DeepCache \d", stamped[3])
    assert "\x1b" not in output and not any(noise in output for noise in NOISE)
    # All else is in the file that is named.
    log = project.folder / stamped[0].rpartition("log: ")[2]
    assert "Building DAG of jobs" in log.read_text()
    assert status(project).startswith("done: a run on cpu")
    assert json.loads(status(project, "--json"))["cells_done"] == 1


@pytest.mark.long
def test_a_terminal_gets_one_view_and_is_left_clean(finished: Finished, tmp_path: Path) -> None:
    project = again(finished, tmp_path / "p", f"search/{CONFIGURATION}.json", "report.html")
    shutil.rmtree(project.results / "journal" / "timed")  # so that it takes a while
    shown = terminal(project)
    shown.wait(lambda: "searching mini-SD1.5" in shown.text)
    other = json.loads(status(project, "--json"))
    assert shown.end() == 0, shown.text
    assert other["state"] == "going" and other["cells"] == 1
    assert {stage["stage"] for stage in other["stages"]} >= {"search", "verify"}
    text = shown.text
    assert "running on cpu" in text and "0 of 1" in text and "searching mini-SD1.5, DDIM" in text
    assert not any(noise in text for noise in NOISE)
    # The cursor is shown again, and what is left is the table.
    assert shown.said.rindex("\x1b[?25h") > shown.said.rindex("\x1b[?25l")
    assert "scripts verified: " in shown.said[shown.said.rindex("\x1b[?25h") :]
    lines = text[text.rindex("mini-SD1.5, DDIM, 8 steps: fastest within the limit") :].splitlines()
    # But a command, which is to be copied.
    assert max(len(line) for line in lines if not line.lstrip().startswith("diffaccel ")) <= 80


@pytest.mark.long
def test_ctrl_c_leaves_the_terminal_clean_and_kill_is_told(
    finished: Finished, tmp_path: Path
) -> None:
    project = again(finished, tmp_path / "p", f"search/{CONFIGURATION}.json")
    shutil.rmtree(project.results / "journal")  # so that it takes a while
    shown = terminal(project, NO_COLOR="1")
    shown.wait(lambda: "run on cpu" in shown.said)
    os.write(shown.screen, b"\x03")
    assert shown.end() not in (0, None)
    assert "\x1b" not in shown.said and "stopping" in shown.said
    assert "`diffaccel run` goes on from there" in shown.said
    assert "ended, and not all is made" in status(project)

    process = project.start()
    run = project.results / "logs" / "run.json"
    before = run.stat().st_mtime_ns
    while run.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert status(project).startswith("killed: a run on cpu")


@pytest.mark.long
def test_a_terminal_that_is_closed_stops_the_run(project: Project) -> None:
    """The system tells who leads the session, and nobody else."""
    shown = terminal(project)
    job = project.results / "logs" / "baseline" / f"{CONFIGURATION}.json"
    shown.wait(job.exists)
    os.close(shown.screen)
    assert shown.process.wait(120) != 0
    (log,) = (project.folder / ".snakemake" / "log").glob("*.diffaccel.log")
    assert "Terminating processes on user request" in log.read_text()  # it was not killed
    assert "ended, and not all is made" in status(project)


def test_where_nothing_ran_it_says_so(project: Project) -> None:
    command = [sys.executable, "-m", "diffaccel", "status"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project.folder)
    assert done.returncode == 2 and "nothing has run there yet" in done.stderr


@pytest.mark.long
def test_what_is_no_work_is_passed_through(project: Project) -> None:
    assert "digraph" in project.run("--dag")
