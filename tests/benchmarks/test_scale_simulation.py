"""The simulation of failures is exact where nothing fails, and accounts for every second where much
does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import scale_simulation as bench
from benchmarks.scale_simulation import FOREVER, Plant, Simulation

CALM = Plant(1000, 4, 2.0, 10, 0.5, FOREVER, 30.0, FOREVER, 60.0)
STORMY = replace(CALM, pictures=20_000, mtbf=400.0, head_mtbf=900.0)


def test_without_failures_the_time_is_that_of_the_intervals():
    outcome = Simulation(CALM, seed=1).run()
    assert outcome.seconds == pytest.approx(100 / 4 * CALM.turn)
    assert (outcome.failures, outcome.repeated, outcome.lost, outcome.recovering) == (0, 0, 0, 0)
    assert outcome.flushing == pytest.approx(100 * 0.5) and outcome.idle == pytest.approx(0)


def test_gangs_that_find_the_queue_empty_are_idle():
    outcome = Simulation(replace(CALM, pictures=50), seed=1).run()  # 5 intervals, 4 gangs
    assert outcome.seconds == pytest.approx(2 * CALM.turn)
    assert outcome.idle == pytest.approx(3 * CALM.turn)


@pytest.mark.parametrize("seed", range(5))
def test_every_second_is_work_or_lost_or_recovery_or_idle(seed):
    outcome = Simulation(STORMY, seed).run()
    work = STORMY.turns * STORMY.turn
    spent = work + outcome.lost + outcome.recovering + outcome.idle
    assert outcome.failures > 20 and outcome.head_failures > 5
    assert spent == pytest.approx(4 * outcome.seconds, rel=0.02)  # a recovery may outlast the run
    assert outcome.flushing == pytest.approx(STORMY.turns * STORMY.flush)
    assert outcome.repeated <= outcome.lost / STORMY.seconds


def test_the_same_seed_gives_the_same_run():
    runs = [Simulation(STORMY, seed).run() for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_shorter_intervals_lose_less_and_flush_more():
    long, short = (
        Simulation(replace(STORMY, interval=interval), seed=7).run() for interval in (50, 5)
    )
    assert short.lost < long.lost / 3 and short.repeated < long.repeated / 3
    assert short.flushing == pytest.approx(10 * long.flushing)


def test_what_is_lost_is_half_an_interval_for_each_failure():
    plant = replace(CALM, pictures=400_000, mtbf=2000.0)
    outcome = Simulation(plant, seed=2).run()
    assert outcome.lost / outcome.failures == pytest.approx(plant.turn / 2, rel=0.1)


def test_leaps_change_no_numbers_where_nothing_fails(monkeypatch):
    plain = Simulation(CALM, seed=1).run()
    monkeypatch.setattr(bench, "LEAPS", 1000)  # one interval at a time
    assert Simulation(CALM, seed=1).run() == plain


def test_a_gang_of_all_gpus_fails_as_often_as_all_of_them():
    args = bench.parse_args(["--gpus", "8", "--gang", "8", "--mtbf", "80", "--pictures", "10"])
    plant = bench.plant_of(args, 10)
    assert plant.gangs == 1 and plant.mtbf == pytest.approx(10 * bench.HOUR)


def test_the_table_has_a_line_for_each_interval(capsys):
    command = "--pictures 1000 --gpus 4 --intervals 5 50 --repeats 2 --mtbf 2 --seconds 10"
    assert bench.main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:6]] == ["5", "50"]
    assert len({line.count("|") for line in lines[2:6]}) == 1


@pytest.mark.parametrize(
    "bad",
    ["--gpus 10 --gang 4", "--pictures 0", "--mtbf 0", "--flush -1",
     "--mtbf 0.01 --intervals 10000"],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(bad, capsys):
    with pytest.raises(SystemExit):
        bench.parse_args(bad.split())
    assert "error:" in capsys.readouterr().err
