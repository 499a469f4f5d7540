"""Runs of a workspace of the test's own, and what becomes of them."""

from collections.abc import Callable

import pytest
from mlflow.entities import Run

from foretrace.tracking.outbox import Outbox
from foretrace.tracking.recovery import LOCK, Process
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import create_run
from foretrace.workspace import Workspace


@pytest.fixture
def workspace(here) -> Workspace:
    return Workspace(here)


@pytest.fixture
def begin(workspace) -> Callable[..., TrackedRun]:
    """Begins a run, in the test's workspace unless told otherwise."""

    def begin_one(there: Workspace = workspace) -> TrackedRun:
        return create_run(there, experiment="test", name="one", tags={"color": "blue"})

    return begin_one


@pytest.fixture
def stored() -> Callable[[TrackedRun], Run]:
    """A run as the store has it."""
    return lambda tracked: tracked.client.get_run(tracked.id)


@pytest.fixture
def kill(workspace) -> Callable[..., Outbox]:
    """Makes of a run what SIGKILL leaves of it: another process's name, a free lock, and unsent records."""

    def kill_one(tracked: TrackedRun, *records: dict, **process: str) -> Outbox:
        for key, value in Process.this()._replace(**{"started": "1"} | process).tags().items():
            tracked.client.set_tag(tracked.id, key, value)
        left = Outbox(workspace.staging / tracked.id)
        for record in records:
            left.append(record)
        left.folder.mkdir(parents=True, exist_ok=True)
        (left.folder / LOCK).touch()
        return left

    return kill_one
