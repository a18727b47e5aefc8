"""The journal: lines that can be believed, whatever becomes of the file."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.storage import journal as module
from codedmap.storage.journal import Journal

JOB = {"rows": 10, "fn": ["f", "abc"]}
RECORDS = [{"form": {"values": ["<f8", []]}}] + [{"rows": [[n, n + 1]]} for n in range(5)]


@pytest.fixture
def written(tmp_path):
    journal = Journal(tmp_path / "journal", JOB)
    for record in RECORDS:
        journal.add(record)
    journal.sync()
    journal.close()
    return tmp_path / "journal"


def reopened(path, job=JOB):
    journal = Journal(path, job)
    journal.close()
    return journal.records


def test_what_was_added_is_there_again(written):
    assert reopened(written) == RECORDS
    assert reopened(written) == RECORDS, "reading changes nothing"


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_costs_a_line_at_most_two_or_is_an_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path, JOB)
    for record in RECORDS:
        journal.add(record)
    journal.close()
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    first = len(content.split(b"\n")[0])
    found: list = []
    with contextlib.suppress(cm.InvalidArgument):
        found = reopened(path)
    if not found:
        assert bit // 8 <= first, "only the first line says what the job is"
        return
    assert len(found) >= len(RECORDS) - 2
    assert found == [record for record in RECORDS if record in found]


@settings(max_examples=100)
@given(st.data())
def test_a_journal_may_end_anywhere(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path, JOB)
    for record in RECORDS:
        journal.add(record)
    journal.close()
    content = path.read_bytes()
    end = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:end])
    found = reopened(path)
    assert found == RECORDS[: len(found)]
    assert len(found) == max(0, content[:end].count(b"\n") - 1)
    journal = Journal(path, JOB)
    journal.add({"rows": [[7, 8]]})
    journal.close()
    again = reopened(path)
    assert again[: len(found)] == found
    assert again[-1] == {"rows": [[7, 8]]}, "what follows is not lost with the rest"


@pytest.mark.parametrize("content", [b"precious\n", b"precious", b"\x80\x04x", b"\n", b"{}\n"])
def test_another_file_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(cm.InvalidArgument, match="damaged"):
        Journal(path, JOB)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({**JOB, "rows": 11}, "of a job with 10 rows, and this one has 11 rows"),
        ({**JOB, "fn": ["g", "abc"]}, "the function f, and this one has the function g"),
        ({**JOB, "fn": ["f", "abd"]}, "the function f, which is not the same now"),
    ],
)
def test_another_job_is_refused_with_the_difference(written, job, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        Journal(written, job)


@pytest.mark.skipif(module.fcntl is None, reason="there are no file locks")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_all_the_same(written, monkeypatch, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.fcntl, "flock", none)
    assert reopened(written) == RECORDS


@pytest.mark.skipif(module.fcntl is None, reason="there are no file locks")
def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path):
    first = Journal(tmp_path / "journal", JOB)
    with pytest.raises(cm.InvalidArgument, match="is being written by another job"):
        Journal(tmp_path / "journal", JOB)
    first.close()
    Journal(tmp_path / "journal", JOB).close()


@pytest.mark.skipif(module.fcntl is None, reason="there are no file locks")
def test_a_lock_is_released_even_if_a_process_was_forked_meanwhile(tmp_path):
    first = Journal(tmp_path / "journal", JOB)
    inherited = os.dup(first._file)  # as a fork has
    first.close()
    Journal(tmp_path / "journal", JOB).close()
    os.close(inherited)


@pytest.mark.skipif(module.fcntl is None, reason="there are no file locks")
def test_a_journal_that_another_job_removes_is_not_written_to(tmp_path, monkeypatch):
    lock = module.fcntl.flock

    def later(file, how):
        (tmp_path / "journal").unlink(missing_ok=True)
        lock(file, how)

    monkeypatch.setattr(module.fcntl, "flock", later)
    with pytest.raises(cm.InvalidArgument, match="is being written by another job"):
        Journal(tmp_path / "journal", JOB)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(cm.InvalidArgument, match=r"cannot be written \(No such file"):
        Journal(tmp_path / "nowhere" / "journal", JOB)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal", JOB)
    journal.add(RECORDS[0])

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(cm.errors.OutputError, match=r"No space left on device\): make room"):
            journal.add(RECORDS[1])
        with pytest.raises(cm.errors.OutputError, match="No space left on device"):
            Journal(tmp_path / "new", JOB)
        journal.close()
        written = (tmp_path / "journal").read_bytes()
        (tmp_path / "journal").write_bytes(written[:-1])
        with pytest.raises(cm.errors.OutputError, match="No space left on device"):
            reopened(tmp_path / "journal")
    assert not (tmp_path / "new").exists(), "it need not be resumed"
    with (tmp_path / "journal").open("a") as file:
        file.write("\n")
    assert reopened(tmp_path / "journal") == RECORDS[:1]
