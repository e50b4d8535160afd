"""What ends the process of the work is held against the candidate, not against the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORK = """
import ctypes, logging, os, signal, sys, time
from diffaccel.machine.watch import PLAIN, watched
logging.basicConfig(format="%(message)s")
calls = open(sys.argv[1], "a")

def work(watch):
    watch = watch.within(0.5)
    for name in ("first", "second", "third"):
        if name in watch.blamed:
            passing = "passing" if watch.blamed[name].passing else "for good"
            print(name, watch.blamed[name], passing, flush=True)
            continue
        with watch.calling(name):
            print(name, file=calls, flush=True)
            if name == "second":
                {act}
    print("done", flush=True)

watched(work)
"""


def run(act: str, folder: Path, work: str = WORK) -> tuple[int, str, list[str]]:
    """Status, what was said, and the calls that were made."""
    calls = folder / "calls"
    command = [sys.executable, "-c", work.replace("{act}", act), str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr, calls.read_text().split()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("ctypes.string_at(0)", "second a call ended the process, by signal SIGSEGV for good"),
        ("os.abort()", "second a call ended the process, by signal SIGABRT for good"),
        ("os._exit(0)", "second a call ended the process, by an exit for good"),
        ("time.sleep(60)", "second a call took more than 0 s passing"),
        ("ctypes.PyDLL(None).sleep(60)", "second a call took more than 0 s passing"),
    ],
)
def test_a_candidate_that_ends_the_process_is_not_called_again(
    act: str, says: str, tmp_path: Path
) -> None:
    status, said, calls = run(act, tmp_path)
    assert status == 0 and says in said and "done" in said
    assert calls == ["first", "second", "first", "third"]


def test_one_kill_is_not_held_against_it(tmp_path: Path) -> None:
    """It may have been anybody's; the same again is not."""
    once = f"os.path.exists('{tmp_path}/x') or (open('{tmp_path}/x', 'w'), os.kill(os.getpid(), 9))"
    status, said, calls = run(once, tmp_path)
    assert status == 0 and "done" in said
    assert calls == ["first", "second", "first", "second", "third"]
    assert "signal SIGKILL" in said
    (tmp_path / "again").mkdir()
    status, said, calls = run("os.kill(os.getpid(), 9)", tmp_path / "again")
    assert status == 0 and calls.count("second") == 2 and calls[-1] == "third"
    assert "second a call ended the process, by signal SIGKILL passing" in said


def test_a_device_that_is_lost_twice_in_a_call_is_held_against_it_for_now(tmp_path: Path) -> None:
    lost = "(watch.lost(name, 'unspecified launch failure'), sys.exit(1))"
    after = WORK.replace('            if name == "second":\n    ', '        if name == "second":\n')
    status, said, calls = run(lost, tmp_path, after)
    assert status == 0 and calls.count("second") == 2 and calls[-1] == "third"
    assert "second the device was lost in a call: unspecified launch failure passing" in said


@pytest.mark.parametrize(
    ("act", "status"),
    [("sys.exit(2)", 2), ("1 / 0", 1), ("os.kill(os.getpid(), signal.SIGTERM)", 143)],
)
def test_other_ends_are_the_jobs_own(act: str, status: int, tmp_path: Path) -> None:
    assert run(act, tmp_path)[0] == status


def test_a_plain_pipeline_may_take_its_time(tmp_path: Path) -> None:
    work = WORK.replace("watch.calling(name)", "watch.calling(PLAIN)")
    status, said, calls = run("time.sleep(1)", tmp_path, work)
    assert status == 0 and "done" in said and calls == ["first", "second", "third"]


def test_a_plain_pipeline_that_crashes_ends_the_job(tmp_path: Path) -> None:
    work = WORK.replace("watch.calling(name)", "watch.calling(PLAIN)")
    status, said, calls = run("os.abort()", tmp_path, work)
    assert status == 128 + signal.SIGABRT and "the baseline pipeline itself" in said
    assert calls == ["first", "second"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_work_ends_with_who_watches_it(number: int, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    work = WORK.replace("within(0.5)", "within(60)").replace(
        "{act}", "(print(os.getpid(), file=calls, flush=True), time.sleep(60))"
    )
    process = subprocess.Popen([sys.executable, "-c", work, str(calls)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not calls.exists() or len(calls.read_text().split()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker = int(calls.read_text().split()[2])
    process.send_signal(number)
    status = process.wait(30)
    assert status == (-number if number == signal.SIGKILL else 128 + signal.SIGTERM)
    while Path(f"/proc/{worker}/cmdline").exists() and _runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return ") Z " not in Path(f"/proc/{process}/stat").read_text()
