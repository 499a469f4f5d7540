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

    >>> Process.of_tags(Process.this().tags()).is_gone()
    False
    """

    host: str
    boot: str  # empty where the system does not tell, as everything below
    namespace: str  # numbers of processes mean something within one only; a container has its own
    pid: str
    started: str
    machine: str = ""  # two machines may have one name

    @classmethod
    def this(cls) -> "Process":
        """The one that asks."""
        boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        namespace = str(NAMESPACE.readlink()) if NAMESPACE.exists() else ""
        started = _start_time(str(os.getpid())) or ""
        return cls(platform.node(), boot, namespace, str(os.getpid()), started, _machine())

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> "Process | None":
        """The one that a run names, if it names any."""
        found = {name: tags.get(f"process.{name}", cls._field_defaults.get(name)) for name in cls._fields}
        return None if None in found.values() else cls(**{n: value or "" for n, value in found.items()})

    def tags(self) -> dict[str, str]:
        """As a run names it."""
        return {f"process.{name}": value for name, value in self._asdict().items()}

    def is_at_work(self) -> bool:
        """Whether it is seen at work on this host."""
        here = Process.this()
        same_place = (self.boot, self.namespace) == (here.boot, here.namespace)
        return same_place and _start_time(self.pid) == self.started

    def sees_our_locks(self) -> bool:
        """Whether it is one of this kernel, in a container or not: a file lock that is free is not held by it.

        Of other kernels no lock may be seen: on some network file systems, and where a virtual machine runs containers.
        """
        here = Process.this()
        return (self.boot or self.host) == (here.boot or here.host)

    def is_gone(self) -> bool:
        """Whether it has ended for certain; False if it is at work, or on a host that we know nothing of."""
        here = Process.this()
        if not self.boot or not here.boot:
            return False
        if self.boot != here.boot:
            same_machine = bool(self.machine) and self.machine == here.machine
            return same_machine and self.host == here.host  # which has been started anew since
        return self.namespace == here.namespace and _start_time(self.pid) != self.started


def _machine() -> str:
    """Of the machine's number, which is not to be shown, a digest."""
    number = MACHINE_ID.read_bytes().strip() if MACHINE_ID.exists() else b""
    return hashlib.sha256(b"foretrace" + number).hexdigest()[:16] if number else ""


def _start_time(pid: str) -> str | None:
    if not pid.isdecimal():  # it comes from a record, and becomes part of a path
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[START_TIME_FIELD - 3]  # the name before may hold spaces
