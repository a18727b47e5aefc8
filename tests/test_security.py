"""What docs/security.md says of pickles, ports and files is so."""

from __future__ import annotations

import ast
import contextlib
import os
import pickle
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from codedmap.cli import files
from codedmap.engines.transport.parcel import pack, receive
from codedmap.testing import Scripted

PACKAGE = Path(cm.__file__).parent
READS_PICKLES = {"load", "loads", "Unpickler"}


def test_only_what_travels_between_processes_is_unpickled():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id in ("pickle", "cloudpickle", "marshal") and node.attr in READS_PICKLES:
                found.add(path.relative_to(PACKAGE).parts[0])
    assert found == {"engines"}


def test_no_array_is_read_from_a_file_with_its_pickles():
    calls = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "np.memmap")
    ]
    assert len(calls) >= 2
    for call in calls:
        assert "allow_pickle=False" in ast.unparse(call), ast.unparse(call)


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def planted(path, name):
    """A file with a pickle that would leave a trace if it were read, and that trace."""
    trace = path / "trace"
    content = np.empty(1, object)
    content[0] = Planted(str(trace))
    if name.endswith(".npy"):
        np.save(path / name, content)
    else:
        (path / name).write_bytes(pickle.dumps(content[0]))
    return path / name, trace


def test_a_pickle_in_a_file_is_refused_and_not_read(tmp_path):
    journal, trace = planted(tmp_path, "out.npy.journal")
    with pytest.raises(cm.InvalidArgument, match="is damaged"):
        cm.map(np.sin, np.ones((4, 1)), engine=Scripted(2), out=tmp_path / "out.npy", resume=True)
    inputs, _ = planted(tmp_path, "inputs.npy")
    with pytest.raises(cm.InvalidArgument, match="holds Python objects, and unpickling"):
        files.rows_in(inputs, None)
    assert not trace.exists()
    pickle.loads(journal.read_bytes()).close()
    assert trace.exists()  # as any of them would have left


def test_answers_that_are_objects_are_not_written(tmp_path):
    def fn(batch):
        answers = np.empty(len(batch), object)
        answers[:] = [{"a": 1}] * len(batch)
        return answers

    with pytest.raises(cm.InvalidAnswer, match=r"Python objects, which a \.npy file cannot hold"):
        cm.map(fn, np.ones((4, 1)), engine=Scripted(2), out=tmp_path / "out.npy")
    with pytest.raises(cm.InvalidAnswer, match="dtype object"):
        cm.map(fn, np.ones((4, 1)), engine=Scripted(2), out=tmp_path / "out.zarr")


def ports(processes):
    """Addresses of the network sockets of these processes."""
    inodes = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed in the meantime
                inodes.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    tables = [Path("/proc/net", kind) for kind in ("tcp", "tcp6", "udp", "udp6")]
    lines = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[9] in inodes}


def look(payload):
    """The ports of a worker, and of what it was started by."""
    return ports([os.getpid(), os.getppid()])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_of_this_machine_and_their_caller_open_no_port():
    before = ports([os.getpid()])
    with cm.engines.Local(2) as engine:
        assert engine.submit(0, look, np.ones(100_000)).result(60) == set()
        assert ports([os.getpid()]) <= before
    with socket.create_server(("127.0.0.1", 0)):
        assert len(ports([os.getpid()]) - before) == 1  # as it would have been seen


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no shared memory as files")
def test_arrays_on_their_way_are_readable_by_the_same_user_only():
    segment = f"codedmap-test-{os.getpid()}"
    packed = pack(np.ones(100_000), segment)
    try:
        assert packed.segment == segment
        assert Path("/dev/shm", segment).stat().st_mode & 0o777 == 0o600
    finally:
        np.testing.assert_array_equal(receive(packed).unpack(), np.ones(100_000))
    assert not Path("/dev/shm", segment).exists()
