"""Which process is at work on a run, and runs that none ends any more: marked KILLED, once what they left is sent."""

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.tracking.stored import StoredRun

LOCK, RESERVE = "lock", "reserve"
MACHINE_ID = Path("/etc/machine-id")
BOOT_ID, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
START_TIME_FIELD = 22  # of /proc/<pid>/stat, in clock ticks since boot; see proc(5)


class Process(NamedTuple):
    """A process that no other one is ever taken for: numbers are given anew, and after a boot all of them.

    >>> Process.of_tags(Process.this().tags()).is_alive()
    True
    """

    host: str
    boot: str  # empty where the system does not tell, as everything below
    namespace: str  # numbers of processes mean something within one only; a container has its own
    pid: str
    started: str
    machine: str = ""  # two machines may have one name

    @classmethod
    def this(cls) -> "Process":
        """Return the process that asks."""
        boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        namespace = str(NAMESPACE.readlink()) if NAMESPACE.exists() else ""
        machine = MACHINE_ID.read_bytes().strip() if MACHINE_ID.exists() else b""  # not to be shown: a digest
        digest = hashlib.sha256(b"foretrace" + machine).hexdigest()[:16] if machine else ""
        pid = str(os.getpid())
        return cls(platform.node(), boot, namespace, pid, _start_time(pid) or "", digest)

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> "Process | None":
        """Return the process that a run names, if it names any."""
        found = {name: tags.get(f"process.{name}", cls._field_defaults.get(name)) for name in cls._fields}
        return None if None in found.values() else cls(**{n: value or "" for n, value in found.items()})

    def tags(self) -> dict[str, str]:
        """Return the tags by which a run names it."""
        return {f"process.{name}": value for name, value in self._asdict().items()}

    def is_alive(self) -> bool | None:
        """Return whether it is at work; None if that cannot be seen: on another machine, in another container."""
        here = Process.this()
        if self.boot and here.boot and self.boot != here.boot:
            started_anew = self.machine and (self.machine, self.host) == (here.machine, here.host)
            return False if started_anew else None
        if not self.boot or (self.boot, self.namespace) != (here.boot, here.namespace):
            return None
        return _start_time(self.pid) == self.started

    def sees_our_locks(self) -> bool:
        """Return whether it is one of this kernel, in a container or not: a free file lock is not held by it.

        Locks of other kernels may not be seen: on some network file systems, and where a virtual machine runs the
        containers.
        """
        here = Process.this()
        return (self.boot or self.host) == (here.boot or here.host)


def _start_time(pid: str) -> str | None:
    if not pid.isdecimal():  # it comes from a record, and becomes part of a path
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[START_TIME_FIELD - 3]  # the name before may hold spaces


def recover(client: MlflowClient, *, experiments: Sequence[str], staging: Path) -> list[str]:
    """Mark runs of dead processes KILLED, after sending what they left behind in ``staging``; return their ids.

    Runs of this host that left nothing behind are looked for in the ``experiments``, by their ids.
    """
    left = [folder.name for folder in sorted(staging.glob("*")) if (folder / LOCK).exists()]
    dead = [run_id for run_id in left if _recover_one(client, staging / run_id)]
    # Also those that died before they had a folder:
    for run in client.search_runs(list(experiments), "attributes.status = 'RUNNING'"):
        if is_dead(run) and not (staging / run.info.run_id).exists():
            client.set_terminated(run.info.run_id, status="KILLED")
            dead.append(run.info.run_id)
    return dead


def is_dead(run: Run) -> bool:
    """Return whether a run is RUNNING in a process that has ended for certain."""
    process = Process.of_tags(run.data.tags)
    return run.info.status == "RUNNING" and process is not None and process.is_alive() is False


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of the run that a folder belongs to."""
    try:
        with FileLock(folder / LOCK, timeout=0) if (folder / LOCK).exists() else nullcontext():
            return False
    except Timeout:
        return True


def _recover_one(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            run = client.get_run(folder.name)
            process = Process.of_tags(run.data.tags)
            alive = process.is_alive() if process else False
            if alive or (alive is None and process and not process.sees_our_locks()):
                return False
            StoredRun(client, run, staging=folder.parent).sync()
            info = client.get_run(folder.name).info
            was_running = bool(info.status == "RUNNING" and info.lifecycle_stage == LifecycleStage.ACTIVE)
            if was_running:
                client.set_terminated(folder.name, status="KILLED")
            clear(folder)
            return was_running
    except Timeout:
        return False
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False  # a run of another store


def clear(folder: Path) -> None:
    """Remove what a run at work keeps in its folder; by whoever holds its lock."""
    for name in (RESERVE, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # artifacts of a store elsewhere, or what it refused
        folder.rmdir()
