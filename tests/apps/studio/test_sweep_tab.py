"""The tab Sweep: what it says before, and the table below a sheet and below nothing else."""

from __future__ import annotations

import base64
import re

import pytest
from drawing import text_settings

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.server.pace import Pace  # noqa: E402
from apps.studio.sweeping import FOLDER, Sweeping, plan  # noqa: E402
from apps.studio.tabs.sweep import in_words, table_html  # noqa: E402
from optimizedSD.web.limits import Limits  # noqa: E402


@pytest.fixture
def planned(pipeline):
    settings = text_settings(H=64, W=64)
    return plan(settings, ("scale: 1, 3", "seed: 1-3", ""), pipeline.choice, Limits())


def test_it_says_how_much_a_sweep_is(planned):
    pace = Pace()
    assert in_words(planned, pace, "en").startswith("6 pictures (2 × 3), 24 steps; how long")
    pace.measure(planned.cost, 9.0)
    assert in_words(planned, pace, "zh") == "6 張（2 × 3），24 步，約 9 秒。"


def test_a_sweep_goes_through_the_queue_and_its_sheet_has_a_table(planned, queue, tmp_path):
    pace = Pace()
    states = list(queue.draw("me", lambda: Sweeping(planned, tmp_path, pace)))
    assert any(state.preview for state in states)
    *pictures, sheet = [saved.path for saved in states[-1].pictures]
    assert len(pictures) == 6 and sheet.name == "sheet-0000.png"
    assert pace.known
    data = re.search(r"base64,([^\"]+)", table_html(tmp_path, str(sheet), "en"))[1]
    assert base64.b64decode(data).decode("utf-8-sig").count("\n") == 7
    assert table_html(tmp_path, str(pictures[0]), "en") == ""


def test_a_cancel_is_heeded_within_a_step_and_keeps_what_is_drawn(planned, queue, tmp_path):
    run = queue.draw("me", lambda: Sweeping(planned, tmp_path, Pace()))
    for state in run:
        if state.pictures:
            queue.stop("me")
    assert state.over and 1 <= len(state.pictures) < 7
    assert state.pictures[-1].path.name == "sheet-0000.png"


@pytest.mark.parametrize("chosen", ["", None, "/etc/passwd", "../sheet-0000.png", "x/sheet.png"])
def test_no_table_is_shown_but_those_of_sheets(chosen, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / "sheet-0000.csv").write_text("secret")
    assert table_html(tmp_path, chosen, "en") == ""
    outside = tmp_path / FOLDER / ".." / "sheet-0000.png"
    assert table_html(tmp_path, str(outside), "en") == ""


def test_a_sweep_that_waited_for_another_model_is_not_drawn(planned, queue, tmp_path):
    from dataclasses import replace

    from ldm.errors import UserError
    from ldm.pipelines.pipeline import Pipeline

    before = queue.pipeline
    queue.pipeline = Pipeline(before.model, replace(before.choice))
    with pytest.raises(UserError, match="another model was loaded"):
        list(queue.draw("me", lambda: Sweeping(planned, tmp_path, Pace())))
    assert not list(tmp_path.iterdir())
