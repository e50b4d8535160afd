"""A Slurm of one's own on this machine: one node with two GPUs that are none, started from the
installed programs in seconds, in a folder that goes with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
PACKAGES = "munge slurmctld slurmd slurm-client"
GPUS = 2
DEADLINE = 60.0
"""Seconds that a daemon may take."""
SAVED = 6.0
"""Seconds after which a controller has written down what it was told: it does so every five. Jobs
that were submitted later are forgotten where it is killed."""


def missing() -> str | None:
    """Why there can be no Slurm here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install --no-install-recommends {PACKAGES}"
    if shutil.which("nvidia-smi") is not None:
        return "the GPUs of this machine would be taken for those that are none"
    return None if os.geteuid() == 0 else "only root makes device files and starts slurmd"


# The prolog runs in each task before it, with its environment, and may change that: there are no
# such GPUs.
_PROLOG = """#!/bin/sh
echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES" >> {folder}/devices
echo export CUDA_VISIBLE_DEVICES=
"""
# Snakemake's executor keeps nothing of SLURM_* for the steps of its jobs.
_SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
TaskProlog={folder}/prolog
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpus Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Job:
    """A job as squeue has it, also after its end."""

    id: int
    state: str
    comment: str
    folder: str
    start: float
    end: float


@dataclass
class Cluster:
    """The daemons and what users ask them with."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this Slurm and no other."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def prepare(self) -> None:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        for number in range(GPUS):
            # Slurm counts nothing but character devices; this one is /dev/null's.
            os.mknod(self.folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        slots = {
            "folder": self.folder,
            "host": socket.gethostname().split(".")[0],
            "controller": _free_port(),
            "node": _free_port(),
            "gpus": GPUS,
            "srun": shutil.which("srun"),
        }
        devices = f"{self.folder}/gpu[0-{GPUS - 1}]"
        (self.folder / "slurm.conf").write_text(_CONF.format(**slots))
        (self.folder / "gres.conf").write_text(f"Name=gpu File={devices} Flags=nvidia_gpu_env\n")
        for path, text in (("prolog", _PROLOG), ("bin/srun", _SRUN)):
            (self.folder / path).write_text(text.format(**slots))
            (self.folder / path).chmod(0o755)

    def start_munge(self) -> None:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        flags = [f"--{flag}={self.folder}/munge.{end}" for flag, end in files.items()]
        flags += [f"--seed-file={self.folder}/munge.seed", "--force", "--foreground"]
        self._start("munged", *flags)
        _wait(lambda: (self.folder / "munge.socket").exists(), "munged")

    def start_controller(self) -> None:
        """Starts slurmctld, the first time or once more."""
        self._start("slurmctld", "-D")
        _wait(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    def start_node(self) -> None:
        self._start("slurmd", "-D")
        _wait(lambda: self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle", "slurmd")

    def kill_controller(self) -> None:
        daemon = self.daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def stop(self) -> None:
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints; nothing where it fails."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def jobs(self, pattern: str = "") -> list[Job]:
        """All there ever were, the oldest first; of those alone whose comment has this."""
        form = "%i|%T|%S|%e|%k|%Z"
        lines = self.ask("squeue", "--states=all", "--noheader", f"--format={form}").splitlines()
        found = [_job(*line.split("|")) for line in lines]
        return sorted((job for job in found if pattern in job.comment), key=lambda job: job.id)

    def device(self, job: Job) -> str:
        """The GPU that a job saw."""
        rows = [line.split() for line in (self.folder / "devices").read_text().splitlines()]
        (device,) = {tuple(row[1:]) for row in rows if row[0] == str(job.id)}
        return " ".join(device)

    def processes(self, job: Job, word: str) -> list[int]:
        """Those of a job whose command line has this word."""
        found = []
        for line in self.ask("scontrol", "listpids", str(job.id)).splitlines()[1:]:
            pid = int(line.split()[0])
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                found += [pid] * (word in words)
        return found

    def _start(self, *command: str) -> None:
        name = command[0]
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | self.environment
            )


def _job(number: str, state: str, start: str, end: str, comment: str, folder: str) -> Job:
    return Job(int(number), state, comment, folder, _seconds(start), _seconds(end))


def _seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) if text[0].isdigit() else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.perf_counter() + DEADLINE
    while not ready():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{what} did not come up in {DEADLINE:.0f} s")
        time.sleep(0.05)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for as long as the block lasts; what runs on it then is ended."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path, as munge's socket needs
    cluster = Cluster(folder)
    try:
        cluster.prepare()
        cluster.start_munge()
        cluster.start_controller()
        cluster.start_node()
        yield cluster
    finally:
        cluster.ask("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
        cluster.stop()
        shutil.rmtree(folder)
