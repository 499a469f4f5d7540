import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.exceptions import MlflowException

from foretrace.tracking import sender as senders
from foretrace.tracking.outbox import REFUSED, Outbox
from foretrace.tracking.sender import Sender, write_record


class Store:
    """Takes records, is offline, or refuses."""

    def __init__(self) -> None:
        self.held, self.error = [], None

    def write(self, record) -> None:
        if self.error is not None:
            raise self.error
        self.held.append(record["n"])


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path)


def test_an_outage_delays_records_and_keeps_their_order(outbox, store, capsys):
    store.error, sender = ConnectionError("gone"), Sender(outbox, store.write)
    outbox.append({"n": 1})
    sender.notify()
    assert not sender.wait(5)
    assert sender.offline
    outbox.append({"n": 2})
    sender.notify()
    store.error = None
    assert sender.end()
    assert store.held == [1, 2]
    said = capsys.readouterr().err
    assert said.index("does not answer; records wait on disk (gone)") < said.index("answers again")


def test_a_refusal_is_raised_once_and_blocks_nothing(outbox, store):
    store.error, sender = MlflowException("no", error_code=1000), Sender(outbox, store.write)
    store.error.error_code = "INVALID_PARAMETER_VALUE"
    outbox.append({"n": 1})
    sender.notify()
    assert sender.wait(5)
    with pytest.raises(MlflowException, match="no"):
        sender.raise_refusal()
    sender.raise_refusal()
    store.error = None
    outbox.append({"n": 2})
    sender.notify()
    assert sender.end()
    assert store.held == [2]
    assert '{"n": 1}' in (outbox.folder / REFUSED).read_text()


def test_the_end_waits_for_a_store_that_is_offline_no_longer_than_it_should(outbox, store, monkeypatch):
    monkeypatch.setattr(senders, "OFFLINE_S", 0.3)
    store.error, sender = ConnectionError(), Sender(outbox, store.write)
    outbox.append({"n": 1})
    sender.notify()
    began = time.monotonic()
    assert not sender.end()
    assert time.monotonic() - began < 5


def test_runs_that_name_the_same_data_at_once_all_do(begin, tmp_path):
    client, together = begin().client, threading.Barrier(4)
    experiment = client.create_experiment("first runs")
    fields = dict.fromkeys(["name", "source_type", "source", "schema", "profile", "context"], "{}")

    def name_data(run, digest):
        together.wait()
        record = {"dataset": fields | {"digest": digest}}
        write_record(record, client=client, run_id=run.info.run_id, uploads=None)

    with ThreadPoolExecutor(4) as pool:
        for digest in "123":
            runs = [client.create_run(experiment) for _ in range(4)]
            list(pool.map(name_data, runs, digest * 4))
    assert len(client.get_run(runs[-1].info.run_id).inputs.dataset_inputs) == 1
