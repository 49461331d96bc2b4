"""The benchmark of smaller gradients trains alike with each kind, and counts what is sent."""

from __future__ import annotations

import math

import pytest
import torch.distributed as dist

from benchmarks import gradient_compression as benchmark


@pytest.fixture
def alone(tmp_path):
    """Make this process the only one of a group, which sends itself its gradients."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_each_kind_trains_the_same_network_from_the_same_weights(alone, monkeypatch):
    carried = iter(range(0, 10_000, 100))
    monkeypatch.setattr(benchmark, "loopback_bytes", lambda: next(carried))
    params = {**benchmark.unet_params(32), "image_size": 8}
    results = {}
    for kind in benchmark.COMPRESSIONS:
        side = benchmark.Side(kind, 1, params, 1)
        results[kind] = benchmark.Result(kind)
        for _ in range(4):
            benchmark.turn(side, results[kind], 1, processes=2)
    losses = [result.loss for result in results.values()]
    assert all(math.isclose(loss, losses[0], rel_tol=0.05) for loss in losses)
    assert results["none"].sent == [50.0] * 4
    assert len(set(losses)) == 4


def test_the_table_compares_with_plain_ddp():
    plain = benchmark.Result("none", [4e6] * 3, [0.1, 0.2, 0.3], 0.5)
    half = benchmark.Result("bf16", [2e6] * 3, [0.05, 0.1, 0.15], 0.5)
    assert "| plain DDP | 4.000 | 1.000 | 0.2000 | **1.000** | 0.5000 | 0.0320 |" in benchmark.row(
        plain, plain
    )
    assert "| bf16 | 2.000 | 0.500 | 0.1000 | **0.500** |" in benchmark.row(half, plain)
    columns = benchmark.HEADER[0].count("|")
    assert benchmark.HEADER[1].count("|") == columns == benchmark.row(half, plain).count("|")


def test_the_loopback_interface_is_read_from_linux_s_table(tmp_path, monkeypatch):
    table = tmp_path / "dev"
    table.write_text("head\n  lo: 1234 5 0 0\neth0: 99 1 0 0\n", encoding="ascii")
    monkeypatch.setattr(benchmark, "COUNTERS", table)
    assert benchmark.loopback_bytes() == 1234


@pytest.mark.parametrize(
    "given", [["--processes", "1"], ["--steps", "0"], ["--channels", "33"]], ids=lambda g: g[0]
)
def test_numbers_out_of_range_are_refused(given, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(given)
    assert f"{given[0]} {given[1]} given" in capsys.readouterr().err
