"""Another model takes the place of the loaded one, or that one stays."""

from __future__ import annotations

from functools import partial

import pytest
from drawing import text_settings

from apps.studio.checkpoints import Checkpoint
from apps.studio.loading import Loading, load_model
from apps.studio.settings import StudioSettings
from ldm.errors import UserError
from ldm.pipelines.pipeline import Pipeline
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.limits import Limits
from optimizedSD.web.worker import Worker

LOAD = partial(load_model, StudioSettings(device="cpu"))


@pytest.fixture
def own(tiny_ckpt):
    """A queue whose model is nobody else's: it is let go of here."""
    made = Worker(Pipeline.load(tiny_ckpt, device="cpu"), log_run=lambda settings: None)
    made.limit(Limits(waiting=3))
    yield made
    assert made.close(10.0)


@pytest.fixture
def other(tiny_ckpt, tmp_path):
    """The same weights under another name."""
    for path in (tiny_ckpt, tiny_ckpt.with_name("config.yaml")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return Checkpoint("other", tmp_path / tiny_ckpt.name)


def do(queue, job):
    return list(queue.draw("me", lambda: job))


def test_the_next_run_draws_with_the_model_that_was_chosen(own, other, tmp_path):
    before, told = own.pipeline, []
    states = do(own, Loading(other, LOAD, told.append))
    assert own.pipeline is not before and own.pipeline.choice.ckpt_path == other.path
    assert told == [own]
    assert any("other" in state.status for state in states)
    assert {each.device.type for each in before.model.parameters()} == {"meta"}
    job = Drawing(text_settings(n_samples=1, n_iter=1, outdir=str(tmp_path)))
    assert len(do(own, job)[-1].pictures) == 1


def test_a_file_that_is_no_model_changes_nothing(own, other):
    before = own.pipeline
    other.path.with_name("config.yaml").write_text("model: 3")
    with pytest.raises(UserError):
        do(own, Loading(other, LOAD))
    assert own.pipeline is before
    assert {each.device.type for each in before.model.parameters()} == {"cpu"}


def test_weights_that_cannot_be_read_bring_the_one_before_back(own, other, tmp_path):
    before = own.pipeline.choice
    other.path.write_bytes(other.path.read_bytes()[:2000])
    with pytest.raises(UserError, match="is loaded again"):
        do(own, Loading(other, LOAD))
    assert own.pipeline.choice.ckpt_path == before.ckpt_path
    job = Drawing(text_settings(n_samples=1, n_iter=1, outdir=str(tmp_path)))
    assert len(do(own, job)[-1].pictures) == 1


def test_the_model_that_is_there_is_not_loaded_again(own):
    path = own.pipeline.choice.ckpt_path

    def refuse(choice, observer):
        raise AssertionError("loaded again")

    do(own, Loading(Checkpoint("tiny", path), refuse))
