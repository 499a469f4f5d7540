"""Records on their way to a store that is full, away, or refuses; and the names under which it takes them."""

import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from foretrace.tracking import outbox as outboxes
from foretrace.tracking.outbox import RECORDS, REFUSED, Outbox, Sender, escape, unescape, write_record
from foretrace.tracking.store import find_run


def numbers(outbox: Outbox) -> list[int]:
    """What waits; it is sent with this."""
    sent = []
    outbox.send(lambda record: sent.append(record["n"]))
    return sent


def test_append_on_a_full_disk_leaves_no_half_line(outbox):
    outbox.append({"n": 1})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((outbox.folder / RECORDS).stat().st_size + 9, before[1]))
    try:
        with pytest.raises(OSError, match=RECORDS):
            outbox.append({"n": "2" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    outbox.append({"n": 3})
    assert numbers(outbox) == [1, 3]


def test_reopening_drops_the_line_that_a_kill_cut(outbox):
    outbox.append({"n": 1})
    with (outbox.folder / RECORDS).open("a") as file:
        file.write('{"n"')
    again = Outbox(outbox.folder)
    again.append({"n": 2})
    assert numbers(again) == [1, 2]


def test_a_torn_note_of_what_was_sent_sends_all_of_it_again(outbox):
    for n in (1, 2):
        outbox.append({"n": n})
    assert (numbers(outbox), numbers(outbox)) == ([1, 2], [])
    (outbox.folder / "delivered").write_text("1")
    assert numbers(outbox) == [1, 2]


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
    sender.append({"n": 1})
    assert not sender.wait(5)
    assert sender.offline
    sender.append({"n": 2})
    store.error = None
    assert sender.end()
    assert store.held == [1, 2]
    said = capsys.readouterr().err
    assert said.index("does not answer; records wait on disk (gone)") < said.index("answers again")


def test_a_refusal_is_raised_once_and_blocks_nothing(outbox, store):
    store.error, sender = MlflowException("no", error_code=1000), Sender(outbox, store.write)
    store.error.error_code = "INVALID_PARAMETER_VALUE"
    sender.append({"n": 1})
    assert sender.wait(5)
    with pytest.raises(MlflowException, match="no"):
        sender.raise_refusal()
    sender.raise_refusal()
    store.error = None
    sender.append({"n": 2})
    assert sender.end()
    assert store.held == [2]
    assert '{"n": 1}' in (outbox.folder / REFUSED).read_text()


def test_the_end_waits_for_a_store_that_is_offline_no_longer_than_it_should(outbox, store, monkeypatch):
    monkeypatch.setattr(outboxes, "OFFLINE_S", 0.3)
    store.error, sender = ConnectionError(), Sender(outbox, store.write)
    sender.append({"n": 1})
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


PIECES = st.sampled_from(["_", "x", "_x", "_x25_", "25", "_x5f_", *"%(=/.aé\n温", "//", ".."])


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join))
def test_escape_is_taken_by_mlflow_and_reversible(name):
    text = escape(name)
    for validate in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        validate(text)
    assert unescape(text) == name


@pytest.mark.parametrize(
    "name", ["MSE train loss/epoch", "mlflow.source.git.commit", "pos_x", "changed.a: b"]
)
def test_usual_names_stay_as_they_are(name):
    assert escape(name) == name


def test_a_run_holds_metrics_params_and_tags_of_any_name(begin, stored, workspace):
    name = "data.units {CO2%: ppm} (air)"
    with begin() as tracked:
        tracked.log_metrics({name: 1.0}, step=0)
        tracked.log_params({name: 5})
        tracked.set_tags({name: "a"})
    assert stored(tracked).info.status == "FINISHED"
    with find_run(tracked.id, workspace, ended=True) as again:
        assert (again.params[name], again.tags[name], again.history(name)) == ("5", "a", ([0], [1.0]))
