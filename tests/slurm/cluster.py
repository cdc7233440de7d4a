"""A real Slurm of one node on the loopback address, for tests: munge, the controller and the node's daemon, in a folder of their own."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
WAIT_S = 60.0
MEMORY_MB = 2048  # a processor, whatever the machine has
CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={default_mb}
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=defer_batch,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=0
MaxArraySize=2000
MaxJobCount=5000
KillWait=2
InactiveLimit=0
BatchStartTimeout=10
SlurmdTimeout={node_timeout_s}
UnkillableStepTimeout=10
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname={host} CPUs={processors} Boards=1 SocketsPerBoard=1 \
CoresPerSocket={processors} ThreadsPerCore=1 RealMemory={memory_mb} State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=2
"""


def why_not() -> str | None:
    """Why there can be no Slurm here; ``None`` where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if missing:
        return f"Slurm is not installed (no {missing[0]}): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.getuid() == 0 else "Slurm's daemons run as root here, and this user is not"


class SlurmCluster:
    """Starts the three daemons; ``surroundings`` is the environment in which Slurm's commands reach them."""

    def __init__(self, folder: Path, *, processors: int = 2, node_timeout_s: int = 5) -> None:
        self._folder, self._running = folder, dict[str, subprocess.Popen[bytes]]()
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # munge refuses a socket that others cannot reach
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        values = {"folder": folder, "host": socket.gethostname().partition(".")[0], "processors": processors}
        values |= {"default_mb": MEMORY_MB, "memory_mb": MEMORY_MB * processors}
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        (folder / "slurm.conf").write_text(CONFIG.format(**values, **ports, node_timeout_s=node_timeout_s))
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        self.surroundings = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> "SlurmCluster":
        folder = self._folder
        munge = [f"--{name}={folder / f'munge.{end}'}" for name, end in (("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"))]
        try:
            self._start("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}", f"--seed-file={folder / 'seed'}", *munge)
            self._wait_for("munge", (folder / "munge.socket").exists)
            self._start("slurmctld", "-D")
            self.start_node()
            self._wait_for("the node", lambda: self.run("sinfo", "-h", "-o", "%T").strip() == "idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        if "slurmctld" in self._running:
            self.run("scancel", "--state=PENDING", "--user=root")
            self.run("scancel", "--signal=KILL", "--full", "--user=root")
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name)

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        return subprocess.run(command, env=self.surroundings, capture_output=True, text=True, check=False).stdout

    def jobs(self) -> list[str]:
        """The jobs that wait or run."""
        return self.run("squeue", "-h", "-r", "-o", "%i %T %j").splitlines()

    def start_node(self) -> None:
        """Starts the node's daemon."""
        self._start("slurmd", "-D", "-N", "localhost")

    def hurry(self) -> None:
        """Jobs that Slurm put back into its queue rest for two minutes; here for two seconds.

        Not less: Slurm tells the credentials of a job's starts apart by whole seconds. In the very second in which a job ended its node
        refuses to launch it again, and the job has failed.
        """
        for line in self.run("squeue", "-h", "-r", "--states=PENDING", "-o", "%i %S").splitlines():
            job, start = line.split()
            if start != "N/A" and datetime.fromisoformat(start) > datetime.now() + timedelta(seconds=10):
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now+2")

    def kill_daemon(self) -> None:
        """The node's daemon dies, and its jobs run on."""
        self._running["slurmd"].kill()
        self._running.pop("slurmd").wait()

    def kill_node(self) -> None:
        """The node dies: its daemon and all that its jobs started."""
        self.kill_daemon()
        for process in _descendants_of_steps(str(self._folder)):
            os.kill(process, signal.SIGKILL)

    def steps(self) -> list[Path]:
        """The sockets of the daemons that look after jobs on the node; one that is about to end is among them."""
        return list((self._folder / "spool").glob("localhost_*"))

    def _start(self, *command: str) -> None:
        log = (self._folder / f"{command[0]}.out").open("ab")
        with log:
            self._running[command[0]] = subprocess.Popen(
                command, env=self.surroundings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _end(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > end or any(process.poll() is not None for process in self._running.values()):
                logs = "\n".join(
                    path.read_text(errors="replace")[-2000:] for path in sorted([*self._folder.glob("*.log"), *self._folder.glob("*.out")])
                )
                raise RuntimeError(f"{what} did not come up:\n{logs}")
            time.sleep(0.1)


def _descendants_of_steps(mark: str) -> list[int]:
    """Slurm's step daemons of this cluster, told by its configuration in their environment, and all that they started."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURM_CONF", "").startswith(mark) and (
                process.name() == "slurmstepd" or "SLURM_JOB_ID" in process.environ()
            ):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
