"""A real Slurm cluster on this machine: munged, one slurmctld and several slurmd, each with its own ports, in one folder.

No system service is used or touched; jobs run as the user who started it. Needs Debian's packages `slurm-wlm` and `munge`.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "mungekey")
CLEAN = 5.0  # seconds that a node gets to end a job before the job may start again
CONF = """
ClusterName=heed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5
SelectType=select/linear
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=1
KillWait=2
OverTimeLimit=0
InactiveLimit=0
MinJobAge=300
MaxArraySize={max_array}
MaxJobCount=20000
SlurmdTimeout=30
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be started here, or nothing."""
    absent = [p for p in PROGRAMS if shutil.which(p) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)"
    return ""


def free_ports(n: int) -> list[int]:
    """`n` ports that nobody listens on."""
    with suppress(OSError):
        sockets = [socket.socket() for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        return ports
    raise RuntimeError("no free ports")


@dataclass
class Cluster:
    """`with Cluster(2) as cluster: subprocess.run(..., env=cluster.env)`. Nodes are called node1, node2, ..."""

    n_nodes: int = 2
    max_array: int = 10001
    folder: Path = field(init=False)
    processes: list[subprocess.Popen] = field(init=False, default_factory=list)
    delayed: dict[str, float] = field(init=False, default_factory=dict)  # since when jobs wait after a requeue

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands speak to this cluster."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    @property
    def nodes(self) -> list[str]:
        return [f"node{i + 1}" for i in range(self.n_nodes)]

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # the path of a socket must be short
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        host, ports = socket.gethostname().split(".")[0], free_ports(self.n_nodes + 1)
        nodes = "\n".join(
            f"NodeName={n} NodeHostname={host} NodeAddr=127.0.0.1 Port={p} CPUs=1 RealMemory=2000 State=UNKNOWN"
            for n, p in zip(self.nodes, ports[1:], strict=True)
        )
        conf = CONF.format(
            folder=self.folder, user=getpass.getuser(), host=host, port=ports[0], nodes=nodes, max_array=self.max_array
        )
        (self.folder / "slurm.conf").write_text(conf)
        key = self.folder / "munge.key"
        subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "log", "pid", "seed")}
        own = [f"--{name}{'' if name == 'socket' else '-file'}={file}" for name, file in files.items()]
        self._spawn("munged", "--foreground", "--force", f"--key-file={key}", *own)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._spawn("slurmctld", "-D")
        for node in self.nodes:
            self._spawn("slurmd", "-D", "-N", node)
        self._until(
            lambda: self.run("sinfo", "-h", "-N", "-o", "%T", check=False).split() == ["idle"] * self.n_nodes, "nodes"
        )

    def _spawn(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("ab")
        self.processes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log, cwd=self.folder))

    def _until(self, met, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not met():
            if time.monotonic() > end:
                logs = "\n".join(
                    f"== {p.name}\n{p.read_text()[-1500:]}"
                    for p in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out"))
                )
                raise RuntimeError(f"Slurm: {what} did not start.\n{logs}")
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.run("scancel", "--full", "-s", "KILL", "-u", getpass.getuser(), check=False)
            self.run("scancel", "-u", getpass.getuser(), check=False)
            self._until(lambda: not self.run("squeue", "-h", check=False).strip(), "the end of jobs", 15)
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what tests do to it -------------------------------------------------------------------------------------------

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        return subprocess.run(command, env=self.env, check=check, capture_output=True, text=True, timeout=60).stdout

    def running(self) -> dict[str, str]:
        """Jobs that run, with the node of each."""
        lines = self.run("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i %N").split("\n")
        return dict(line.split() for line in lines if len(line.split()) == 2)

    def hurry(self) -> None:
        """Let jobs that wait after a requeue start after seconds; Slurm itself gives their nodes minutes to clean up."""
        waiting = {}
        for line in self.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%r").splitlines():
            key, _, why = line.partition("|")
            if why.strip() == "BeginTime":
                waiting[key] = self.delayed.get(key, time.monotonic())
                if time.monotonic() - waiting[key] > CLEAN:
                    self.run("scontrol", "update", f"JobId={key}", "StartTime=now", check=False)
        self.delayed = waiting

    def heal(self) -> None:
        """All nodes up, no jobs."""
        self.run("scancel", "-u", getpass.getuser(), check=False)
        for node in self.nodes:
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        self._until(lambda: not self.run("squeue", "-h", check=False).strip(), "an empty queue")
