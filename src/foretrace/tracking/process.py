"""Which process is at work on a run, and whether it still is."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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

    @classmethod
    def this(cls) -> "Process":
        """The one that asks."""
        boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        namespace = str(NAMESPACE.readlink()) if NAMESPACE.exists() else ""
        return cls(platform.node(), boot, namespace, str(os.getpid()), _start_time(str(os.getpid())) or "")

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> "Process | None":
        """The one that a run names, if it names any."""
        found = [tags.get(f"process.{name}") for name in cls._fields]
        return None if None in found else cls(*(value or "" for value in found))

    def tags(self) -> dict[str, str]:
        """As a run names it."""
        return {f"process.{name}": value for name, value in self._asdict().items()}

    def is_at_work(self) -> bool:
        """Whether it is seen at work on this host."""
        here = Process.this()
        same_place = (self.boot, self.namespace) == (here.boot, here.namespace)
        return same_place and _start_time(self.pid) == self.started

    def is_gone(self) -> bool:
        """Whether it has ended for certain; False if it is at work, or on a host that we know nothing of."""
        here = Process.this()
        if not self.boot or not here.boot:
            return False
        if self.boot != here.boot:
            return self.host == here.host  # this host has been started anew since
        return self.namespace == here.namespace and _start_time(self.pid) != self.started


def _start_time(pid: str) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[START_TIME_FIELD - 3]  # the name before may hold spaces
