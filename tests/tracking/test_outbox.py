import json
import resource
import signal

import pytest

from foretrace.tracking.outbox import RECORDS, Outbox


def numbers(outbox: Outbox) -> list[str]:
    return [json.loads(line)["tags"]["n"] for line, _ in outbox.pending()]


def test_append_on_a_full_disk_leaves_no_half_line(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.append({"tags": {"n": "1"}})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / RECORDS).stat().st_size + 9, before[1]))
    try:
        with pytest.raises(OSError, match=RECORDS):
            outbox.append({"tags": {"n": "2" * 100}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    outbox.append({"tags": {"n": "3"}})
    assert numbers(outbox) == ["1", "3"]


def test_reopening_drops_the_line_that_a_kill_cut(tmp_path):
    Outbox(tmp_path).append({"tags": {"n": "1"}})
    with (tmp_path / RECORDS).open("a") as file:
        file.write('{"tags": {"n"')
    outbox = Outbox(tmp_path)
    outbox.append({"tags": {"n": "2"}})
    assert numbers(outbox) == ["1", "2"]


def test_a_torn_note_of_what_was_sent_sends_all_of_it_again(tmp_path):
    outbox = Outbox(tmp_path)
    for n in "123":
        outbox.append({"tags": {"n": n}})
    outbox.commit(next(outbox.pending())[1])
    assert numbers(outbox) == ["2", "3"]
    (tmp_path / "delivered").write_text("1")
    assert numbers(outbox) == ["1", "2", "3"]
