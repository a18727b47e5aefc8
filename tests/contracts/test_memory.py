"""Limits of control groups, read from the files of both versions."""

from __future__ import annotations

import os

import pytest

from codedmap.contracts.memory import cores, group_limits


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


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert list(group_limits("memory", tmp_path)) == []
    assert cores(tmp_path) == len(os.sched_getaffinity(0))
