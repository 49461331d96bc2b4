"""A page's sweep: counted before it starts, limited, drawn into sheet and table, also in part."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from drawing import text_settings

from apps.server.pace import Pace
from apps.studio.sweeping import MOST, SweepRun, axes_offered, plan
from ldm.errors import UserError
from ldm.images.io import load_image
from ldm.pipelines.progress import Progress
from ldm.settings.generation import Txt2ImgSettings
from optimizedSD.web.limits import Limits

LIMITS = Limits(side=256)


@pytest.fixture
def planned(pipeline):
    def make(*texts, **changes):
        settings = text_settings(H=64, W=64, **changes)
        return plan(settings, (*texts, "", "", "")[:3], pipeline.choice, LIMITS)

    return make


def test_pictures_steps_and_time_are_known_before_it_starts(planned):
    made, pace = planned("scale: 1, 3", "ddim_steps: 2, 4, 5"), Pace()
    assert (made.pictures, made.steps, made.seconds(pace)) == (6, 22, None)
    pace.measure(made.cost, 12.0)
    assert made.seconds(pace) == 12
    assert planned("scale: 1, 3").seconds(pace) < 12


def test_each_picture_is_that_of_its_settings_drawn_alone(planned, pipeline, tmp_path):
    made, events = planned("seed: 1-2", "prompt: cat, dog"), []
    run = SweepRun(made, tmp_path)
    saved = list(run.draw(pipeline, events.append))
    assert len(saved) == len(made.sweep.cells) == 4
    assert [event.done for event in events if isinstance(event, Progress)][-1] == made.steps
    for each in saved:
        cell = made.sweep.cells[each.place[0]]
        (alone,) = pipeline.generate(cell.settings)
        assert np.array_equal(np.asarray(load_image(each.path)), alone.pixels)
        assert each.parameters == alone.parameters


def test_sheet_and_table_are_written_beside_each_other(planned, pipeline, tmp_path):
    run = SweepRun(planned("ddim_steps: 2, 4", "seed: 1-2"), tmp_path)
    list(run.draw(pipeline))  # those of one number of steps together
    sheet, table = run.written
    assert (sheet.name, table.name) == ("sheet-0000.png", "sheet-0000.csv")
    assert np.asarray(load_image(sheet)).shape == run.results.sheet.pixels.shape
    with open(table, encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["y: seed"] + row["x: ddim_steps"] for row in rows] == ["12", "14", "22", "24"]
    saved = sorted(run.saved, key=lambda each: each.place)
    assert saved != run.saved
    assert [row["file"] for row in rows] == [each.path.name for each in saved]


def test_what_was_drawn_before_a_cancel_is_kept(planned, pipeline, tmp_path):
    run = SweepRun(planned("ddim_steps: 2, 4, 5"), tmp_path)
    drawn = run.draw(pipeline)
    next(drawn)
    drawn.close()
    assert len(run.saved) == len(run.results.rows) == 1
    assert [path.suffix for path in run.written] == [".png", ".csv"]


def test_one_that_is_cancelled_at_once_leaves_nothing(planned, pipeline, tmp_path):
    class Unwanted(Exception):
        pass

    def refuse(event):
        raise Unwanted

    run = SweepRun(planned("seed: 1-3"), tmp_path)
    with pytest.raises(Unwanted):
        list(run.draw(pipeline, refuse))
    assert run.written == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("",), "nothing varies yet"),
        (("scale",), "a setting, a colon and its values"),
        (("lora: ink, none",), "'lora' cannot vary on this page"),
        (("ckpt: a, b",), "'ckpt' cannot vary on this page"),
        ((f"seed: 1-{MOST + 1}",), f"expected at most {MOST} on this page"),
        (("ddim_steps: 5, 500",), "x: ddim_steps 500.*at most 200"),
        (("W: 64, 1024",), "x: W 1024.*at most 256"),
        (("prompt: bird, dog",), "expected a text that stands in the prompt"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_before_anything_is(planned, texts, said):
    with pytest.raises(UserError, match=said):
        planned(*texts)


def test_settings_that_name_files_are_not_offered():
    offered = axes_offered(Txt2ImgSettings)
    assert {"scale", "seed", "sampler", "prompt", "W"} <= offered.keys()
    files = {"lora", "embedding", "ckpt", "decoder", "control", "glossary", "wildcards"}
    assert not offered.keys() & files
