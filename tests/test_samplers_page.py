"""docs/samplers.md names every sampler and schedule, and says of them what the tables do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.steps import MARKS
from ldm.settings.samplers import SAMPLERS, SPACINGS, check_walk, samplers_for

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "samplers.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if re.match(r"\| `\w", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_sampler_has_its_row_with_its_calls():
    calls = {}
    for row in rows(section("The samplers")):
        names = re.findall(r"`(\w+)`", row[0])
        calls |= dict.fromkeys(names, int(row[1][0]))
    assert calls == {name: entry.calls for name, entry in SAMPLERS.items()}


def test_every_schedule_that_is_offered_has_its_row_with_its_label():
    shown = {row[0].strip("`"): row[1] for row in rows(section("The schedules"))}
    assert shown.keys() == {name for name, entry in SPACINGS.items() if entry.offered}
    for name, labels in shown.items():
        assert SPACINGS[name].label in labels


def test_the_samplers_without_noise_levels_are_those_that_refuse_karras():
    sentence = (
        section("The schedules").split("noise levels: all but ")[1].split(", which refuse")[0]
    )
    assert set(re.findall(r"`(\w+)`", sentence)) == SAMPLERS.keys() - set(samplers_for("karras"))


def test_the_names_beside_each_other_are_the_labels():
    for row in rows(section("AUTOMATIC1111's names")):
        for here, there in (row[:2], row[2:]):
            names = re.findall(r"`(\w+)`", here)
            labels = {SAMPLERS[name].label for name in names}
            assert labels == set(there.split(", "))


@pytest.mark.parametrize("line", section("Which to take").splitlines())
def test_what_is_advised_can_be_drawn(line):
    for sampler, spacing in re.findall(r"`(?:--sampler )?(\w+) --spacing (\w+)`", line):
        check_walk(sampler, spacing, 0.0, "--ddim_eta")
    for sampler in re.findall(r"--sampler (\w+)", line):
        assert sampler in SAMPLERS


def test_there_is_a_place_for_the_measured_table():
    before, after = (TEXT.index(mark) for mark in MARKS)
    assert TEXT.index("## Measured") < before < after < TEXT.index("## The samplers")
