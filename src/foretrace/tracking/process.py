"""Which process is at work on a run, and whether it still is."""

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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
        if self.boot and here.boot and self.boot != here.boot:  # False on this machine, started anew since
            return (
                None if not self.machine or (self.machine, self.host) != (here.machine, here.host) else False
            )
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
