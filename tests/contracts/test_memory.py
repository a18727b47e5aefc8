"""Limits of control groups, read from the files of both versions."""

from __future__ import annotations

import os

import pytest

from codedmap.contracts.memory import cores, free_memory, group_limits


@pytest.mark.parametrize(
    ("controller", "files", "found"),
    [
        (
            "memory",
            {
                "sys/fs/cgroup/a/memory.max": "50",
                "sys/fs/cgroup/a/memory.current": "9",
                "sys/fs/cgroup/memory/c/d/memory.limit_in_bytes": "70",
                "sys/fs/cgroup/memory/c/d/memory.usage_in_bytes": "8",
            },
            [(50, 9), (70, 8)],
        ),
        (
            "pids",
            {
                "sys/fs/cgroup/pids/c/pids.max": "60",
                "sys/fs/cgroup/pids/c/pids.current": "58",
                "sys/fs/cgroup/pids/e/pids.max": "1",
                "sys/fs/cgroup/pids/e/pids.current": "1",
            },
            [(60, 58)],
        ),
        ("memory", {"sys/fs/cgroup/a/b/memory.max": "max"}, []),
        ("memory", {"sys/fs/cgroup/a/memory.max": "5"}, []),
    ],
)
def test_limits_of_the_groups_around_this_process_are_found(tmp_path, controller, files, found):
    write(tmp_path, files)
    limits = list(group_limits(controller, tmp_path))
    assert [(limit, used) for limit, used, _ in limits] == found
    assert all((tmp_path / file).exists() for _, _, file in limits)


def write(root, files):
    groups = "0::/a/b\n5:cpu,pids,memory:/c/d\n3:cpu:/e\n"
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"a/cpu.max": "250000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/c/cpu.cfs_quota_us": "600000\n", "cpu/c/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/e/cpu.cfs_quota_us": "-1\n", "cpu/e/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu.max": "900000 10000\n"}, 64),
        ({}, 64),
    ],
)
def test_no_more_cores_are_used_than_the_quotas_of_control_groups_allow(
    files, most, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    write(tmp_path, {f"sys/fs/cgroup/{name}": content for name, content in files.items()})
    assert cores(tmp_path) == most


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"a/memory.max": "1000", "a/memory.current": "900"}, 100),
        (
            {
                "a/memory.max": "1000",
                "a/memory.current": "990",
                "a/memory.stat": "anon 300\nfile 690\nactive_file 80\ninactive_file 500\n",
            },
            590,
        ),
        (
            {
                "memory/c/d/memory.limit_in_bytes": "1000",
                "memory/c/d/memory.usage_in_bytes": "990",
                "memory/c/d/memory.stat": "inactive_file 1\ntotal_inactive_file 400\ntotal_active_file 20\n",
            },
            430,
        ),
        ({"a/memory.max": "999999", "a/memory.current": "9"}, 2048),
        ({"a/memory.max": "1000", "a/memory.current": "1010"}, 0),
    ],
)
def test_files_that_are_kept_in_memory_leave_it_free(files, free, tmp_path):
    write(tmp_path, {f"sys/fs/cgroup/{name}": content for name, content in files.items()})
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 2 kB\n")
    assert free_memory(tmp_path) == free


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert list(group_limits("memory", tmp_path)) == []
    assert cores(tmp_path) == len(os.sched_getaffinity(0))
    assert free_memory(tmp_path) is None
