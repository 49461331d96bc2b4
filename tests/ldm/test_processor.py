"""Cores, quotas and other people's work are read from the system; formats are timed once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from ldm import processor
from ldm.keeping import cache_file
from ldm.processor import (
    Speeds,
    Ticks,
    cores,
    free_memory,
    quota,
    respect_quota,
    speeds,
    taken_by_others,
)

ALLOWED = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)


def system(root, files):
    """Write files of a system under ``root``; return it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


V2 = {"proc/self/cgroup": "0::/jobs/one\n"}
V1 = {"proc/self/cgroup": "12:memory:/m\n4:cpu,cpuacct:/jobs\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, None),
        (V2, None),
        (V2 | {"sys/fs/cgroup/jobs/one/cpu.max": "max 100000\n"}, None),
        (V2 | {"sys/fs/cgroup/jobs/one/cpu.max": "150000 100000\n"}, 1.5),
        (V2 | {"sys/fs/cgroup/jobs/cpu.max": "50000 100000\n"}, 0.5),
        (V2 | {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        (V1 | {"sys/fs/cgroup/memory/m/cpu.max": "1 1\n"}, None),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_a_quota_is_found_in_both_versions_of_control_groups(tmp_path, files, share):
    assert quota(system(tmp_path, files)) == share


MEMORY = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n"}
LIMITED = {
    "sys/fs/cgroup/jobs/one/memory.max": "3000000\n",
    "sys/fs/cgroup/jobs/one/memory.current": "2500000\n",
    "sys/fs/cgroup/jobs/one/memory.stat": "anon 1\ninactive_file 400000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMORY, 4_096_000),
        (V2 | MEMORY | LIMITED, 900_000),
        (V2 | MEMORY | LIMITED | {"sys/fs/cgroup/jobs/one/memory.max": "max\n"}, 4_096_000),
        (V2 | MEMORY | LIMITED | {"sys/fs/cgroup/jobs/one/memory.current": "9999999\n"}, 0),
        (
            V1
            | MEMORY
            | {
                "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "1000000\n",
                "sys/fs/cgroup/memory/m/memory.usage_in_bytes": "400000\n",
            },
            600_000,
        ),
    ],
)
def test_what_is_free_is_the_systems_or_what_a_control_group_leaves(tmp_path, files, free):
    assert free_memory(system(tmp_path, files)) == free


def test_the_tightest_of_nested_groups_counts(tmp_path):
    files = {
        "sys/fs/cgroup/jobs/one/cpu.max": "400000 100000",
        "sys/fs/cgroup/jobs/cpu.max": "100000 100000",
    }
    assert quota(system(tmp_path, V2 | files)) == 1.0


@pytest.mark.parametrize(("granted", "found"), [(25_000, 1), (100_000, 1), (10**8, len(ALLOWED))])
def test_cores_are_the_allowed_ones_within_the_quota_and_at_least_one(tmp_path, granted, found):
    files = V2 | {"sys/fs/cgroup/cpu.max": f"{granted} 100000"}
    assert cores(system(tmp_path, files)) == found


def test_torch_is_told_of_a_quota_and_a_user_s_own_number_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    respect_quota(tmp_path)
    assert "OMP_NUM_THREADS" not in os.environ
    system(tmp_path, V2 | {"sys/fs/cgroup/cpu.max": "100000 100000"})
    respect_quota(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    respect_quota(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no such counters here")
def test_what_others_take_is_what_the_cores_did_beyond_this_process(tmp_path):
    core, unit = min(ALLOWED), os.sysconf("SC_CLK_TCK")
    line = "cpu{} {} 0 0 5000 9 0 0 0 0 0\n"
    elsewhere = line.format(max(ALLOWED) + 1, 10**6)
    before = Ticks.now(system(tmp_path, {"proc/stat": line.format(core, 0) + elsewhere}))
    system(tmp_path, {"proc/stat": line.format(core, 3 * unit) + elsewhere.replace("10", "20")})
    after = Ticks.now(tmp_path)
    assert after.busy - before.busy == 3.0
    used = Ticks(after.busy, before.own + 1.0, before.at + 4.0)
    assert taken_by_others(before, used) == pytest.approx(0.5)
    assert taken_by_others(None, used) == taken_by_others(before, None) == 0.0


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache folder of the test's own, and a probe that counts its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []

    def probe():
        calls.append(1)
        return {"float32": 2.0, "bfloat16": 1.0}, complete[0]

    complete = [True]
    monkeypatch.setattr(processor, "probe", probe)
    speeds.cache_clear()
    yield calls, complete
    speeds.cache_clear()


def again():
    """Ask as another process would."""
    speeds.cache_clear()
    return speeds()


def test_a_machine_is_measured_once_and_remembered_beside_others(kept):
    calls, _ = kept
    assert speeds().fastest_half == ("bfloat16", 2.0)
    assert again() == Speeds({"float32": 2.0, "bfloat16": 1.0}) and len(calls) == 1
    table = json.loads(cache_file("processors").read_text())
    (key,) = table
    assert processor.cpu_name() in key and "torch" in key and "threads" in key
    cache_file("processors").write_text(json.dumps({"another": table[key]}))
    again()
    assert len(calls) == 2
    assert json.loads(cache_file("processors").read_text()).keys() == {"another", key}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"%s": 3}', '{"%s": {"float32": "x"}}', "[" * 9999]
)
def test_a_cache_that_is_no_such_table_is_measured_again(kept, text):
    calls, _ = kept
    path = cache_file("processors")
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("%s", processor._machine()))
    assert speeds().gain("bfloat16") == 2.0 and len(calls) == 1
    assert again().gain("bfloat16") == 2.0 and len(calls) == 1


def test_what_could_not_be_measured_in_time_is_not_remembered(kept):
    calls, complete = kept
    complete[0] = False
    speeds()
    again()
    assert len(calls) == 2 and not cache_file("processors").exists()


def test_a_cache_that_cannot_be_written_stops_nothing(kept, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert speeds().gain("bfloat16") == 2.0


def test_the_probe_times_float32_andnative_halves_and_ends_in_time():
    times, complete = processor.probe(limit=10.0)
    assert complete and times.keys() == {"float32", *processor.native_halves()}
    assert all(seconds > 0 for seconds in times.values())
    begin = time.process_time()
    times, complete = processor.probe(limit=0.0)
    assert not complete and "float32" in times
    assert time.process_time() - begin < 5  # one call of each, not five


def test_a_format_that_was_not_measured_is_never_the_fastest():
    assert Speeds({"float32": 1.0}).fastest_half[1] == 0.0
    assert Speeds({"float32": 1.0, "float16": 0.5, "bfloat16": 2.0}).fastest_half == ("float16", 2)


def test_the_processor_is_known_without_torch():
    code = (
        "import sys, ldm.processor as p; p.cores(); p.cpu_name(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
