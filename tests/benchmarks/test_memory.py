"""The memory benchmark counts what is there and pretends only what is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import reports
from benchmarks.memory_tracker import GRANULE, MemoryTracker
from benchmarks.pretended_device import KIND, pretended_device

ROOT = Path(__file__).parents[2]
FLOATS = 1024  # a tensor of so many floats takes 4096 bytes, a multiple of the granule
SIZE = 4 * FLOATS


# --- the tracker ---


def test_a_known_sequence_of_allocations_and_frees_is_counted():
    with MemoryTracker() as tracker:
        a = torch.ones(FLOATS)
        b = a + 1
        assert tracker.live["cpu"] == 2 * SIZE
        del a
        assert tracker.live["cpu"] == SIZE
        c = torch.cat([b, b])
        assert tracker.live["cpu"] == 3 * SIZE
        del b, c
        assert tracker.live["cpu"] == 0


def test_views_and_changes_in_place_take_nothing_and_keep_their_storage():
    with MemoryTracker() as tracker:
        a = torch.ones(FLOATS)
        part = a.view(2, -1)[1:]
        a.mul_(2)
        assert tracker.live["cpu"] == SIZE
        del a
        assert tracker.live["cpu"] == SIZE
        del part
        assert tracker.live["cpu"] == 0


def test_a_storage_that_grows_is_weighed_anew():
    with MemoryTracker() as tracker:
        a = torch.empty(FLOATS)
        a.resize_(3 * FLOATS)
        assert tracker.live["cpu"] == 3 * SIZE
        del a
        assert tracker.live["cpu"] == 0


def test_a_replaced_parameter_gives_its_old_memory_back():
    with MemoryTracker() as tracker:
        weight = nn.Parameter(torch.ones(FLOATS))
        weight.data = torch.ones(3 * FLOATS)
        assert tracker.live["cpu"] == 3 * SIZE


def test_small_tensors_are_counted_as_the_allocator_hands_them_out():
    with MemoryTracker() as tracker:
        kept = [torch.ones(1) for _ in range(3)]
        assert tracker.live["cpu"] == len(kept) * GRANULE


def test_each_phase_has_its_own_peak_which_includes_what_lives_when_it_begins():
    with MemoryTracker() as tracker:
        with tracker.phase("first"):
            a = torch.ones(FLOATS)
            _ = a + 1 + 1
        with tracker.phase("second"):
            pass
    peaks = {name: phase.peak["cpu"] for name, phase in tracker.phases.items()}
    assert peaks == {"first": 3 * SIZE, "second": 2 * SIZE}


def test_tensors_made_before_are_counted_once_when_they_are_named():
    layer = nn.Linear(32, 32, bias=False)
    with torch.no_grad(), MemoryTracker() as tracker:
        tracker.count(layer.parameters())
        layer(torch.ones(1, 32))
        assert tracker.live["cpu"] == SIZE


def test_the_count_is_that_of_torchs_own_allocator():
    """Layers without a workspace: there the profiler's record and the tracker must be one."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64), nn.LayerNorm(64))
    x = torch.randn(128, 64)

    def work():
        h = layers(x)
        return (h[None] * h.softmax(-1)).sum()

    with torch.no_grad(), MemoryTracker() as tracker:
        tracker.count([*layers.parameters(), x])
        before = tracker.live["cpu"]
        with tracker.phase("work"):
            work()
    activity = torch.profiler.ProfilerActivity.CPU
    with (
        torch.no_grad(),
        torch.profiler.profile(activities=[activity], profile_memory=True) as profile,
    ):
        work()
    tracked = tracker.phases["work"].peak["cpu"] - before
    # The profiler has exact bytes, the tracker multiples of the granule.
    assert tracked == pytest.approx(allocator_peak(profile), rel=0.02)


def allocator_peak(profile) -> int:
    """Return the most bytes that lived at once, from a profile's record of every change."""
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    live = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        live += change
        peak = max(peak, live)
    return peak


# --- the pretended device ---


@pytest.fixture
def pretended():
    with pretended_device() as device, torch.no_grad(), MemoryTracker() as tracker:
        yield device, tracker


def test_what_moves_is_counted_where_it_is(pretended):
    device, tracker = pretended
    layer = nn.Linear(32, 32, bias=False)
    with tracker.phase("there"):
        layer.to(device)
    assert (tracker.live["cpu"], tracker.live[KIND]) == (0, SIZE)
    assert tracker.phases["there"].moved == {("cpu", KIND): SIZE}
    assert layer.weight.device == device and isinstance(layer.weight, nn.Parameter)
    layer.to("cpu")
    assert (tracker.live["cpu"], tracker.live[KIND]) == (SIZE, 0)


def test_a_parameter_may_be_pointed_at_a_copy_and_back(pretended):
    device, tracker = pretended
    weight = nn.Parameter(torch.ones(FLOATS))
    home = weight.data
    weight.data = home.to(device)
    assert weight.device == device and tracker.live[KIND] == SIZE
    weight.data = home
    assert weight.device.type == "cpu" and tracker.live[KIND] == 0


def test_a_weight_on_the_wrong_device_is_an_error(pretended):
    device, _ = pretended
    layer, x = nn.Linear(4, 4), torch.ones(1, 4).to(device)
    with pytest.raises(RuntimeError, match="two devices"):
        layer(x)


def test_attention_takes_a_fused_kernels_memory_not_the_table_of_scores(pretended):
    device, tracker = pretended
    q = torch.ones(1, 1, 512, 64, dtype=torch.float16).to(device)
    table = 512 * 512 * 2
    with tracker.phase("attention"):
        F.scaled_dot_product_attention(q, q, q)
    assert tracker.phases["attention"].peak[KIND] - q.nbytes < table / 4


def test_autocast_computes_in_half_precision_there(pretended):
    device, _ = pretended
    layer, x = nn.Linear(4, 4).to(device), torch.ones(1, 4).to(device)
    with torch.autocast(device.type, dtype=torch.float16):
        assert layer(x).dtype == torch.float16


def test_nothing_stays_pretended_afterwards():
    with pretended_device():
        pass
    layer = nn.Linear(4, 4).to(torch.float64)
    assert layer.weight.dtype == torch.float64
    assert layer.weight.data_ptr() != 0 and type(layer.weight) is nn.Parameter


# --- the program ---


@pytest.fixture
def benchmark():
    pytest.importorskip("diffusers")
    pytest.importorskip("accelerate")
    from benchmarks import memory

    return memory


def test_both_sides_are_counted_and_the_result_is_saved(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ways = ["stream", "diffusers", "diffusers, group offload"]
    options = "--narrow --size 64 --batch 1 --save check --ways"
    tracked, measured = benchmark.main([*options.split(), *ways])
    stream, peer, group = (tracked[benchmark.Case(64, 1), way] for way in ways)
    assert not measured
    assert stream.peaks["UNet"] < peer.peaks["UNet"]
    assert peer.moved == 0
    # All of the UNet comes in each step, whoever brings it; ours aligns each tensor to 256 bytes.
    assert stream.moved == pytest.approx(group.moved, rel=0.02)
    saved = (tmp_path / "results" / "memory-check.md").read_text(encoding="utf-8")
    assert "benchmarks/memory.py --narrow" in saved and "no GPU here" in saved
    assert "| stream |" in saved
    assert "peak / diffusers" in capsys.readouterr().out


class Accelerator:
    """Stands for ``torch.cuda``: each call of a network takes 1 GiB and a second."""

    def __init__(self):
        self.peak = self.now = 0

    def synchronize(self, device):
        pass

    def reset_peak_memory_stats(self, device):
        self.peak = 0

    def max_memory_allocated(self, device):
        return self.peak

    def work(self, *given):
        self.peak += 2**30
        self.now += 1
        return given[0] if isinstance(given[0], torch.Tensor) else torch.zeros(len(given[0]), 77, 8)


def test_on_a_gpu_each_phase_is_measured_after_a_turn_that_is_not(benchmark, monkeypatch):
    gpu = Accelerator()
    side = SimpleNamespace(text=gpu.work, unet=gpu.work, decode=gpu.work, factor=8)
    side.device = torch.device("cpu")
    monkeypatch.setattr(torch, "get_device_module", lambda device: gpu)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: gpu.now)
    seen = benchmark.measure(side, benchmark.Case(64, 2), 4)
    assert seen.peaks == {"text": 2 * 2**30, "UNet": 2**30, "decode": 2**30}
    assert seen.seconds == {"text": [2], "UNet": [1], "last step": [1, 1, 1], "decode": [1]}
    assert seen.per_minute(batch=2) == pytest.approx(60 * 2 / (2 + 50 + 1))


@pytest.mark.parametrize(
    "bad", ["--size 100", "--batch 0", "--steps 1", "--device cpu", "--ways theirs"]
)
def test_what_cannot_be_measured_is_refused(benchmark, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.parse_args(bad.split())
    assert caught.value.code == 2
    assert bad.split()[0] in capsys.readouterr().err


def test_help_imports_no_torch():
    code = (
        "import sys\nsys.argv[1:] = ['--help']\nfrom benchmarks import memory\n"
        "try:\n    memory.main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
