"""With a real model: a picture's file is that of the lone request, whoever it was drawn with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from face_files import restorer_of
from PIL import Image

from apps.server.asking import MaskJob, PictureJob, TextJob, settings_of
from apps.server.drawing import PipelineDrawer, said_of, single
from apps.server.service import Service, Terms
from ldm.errors import UserError
from ldm.images.io import encode_picture
from ldm.pipelines import facing
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.settings.generation import MAX_SEED, Txt2ImgSettings


@pytest.fixture(scope="module")
def pipeline(tiny_ckpt):
    return Pipeline.load(tiny_ckpt, device="cpu")


def alone(pipeline, settings, **pictures) -> list[bytes]:
    """Return the files that a program draws for a job, one picture at a time."""
    found = []
    for each in single(settings):
        (picture,) = pipeline.generate(each, **pictures)
        found.append(encode_picture(picture.pixels, "png", picture.parameters))
    return found


def test_files_are_those_of_the_lone_requests_to_the_byte(pipeline):
    common = {"ddim_steps": 3, "W": 64, "H": 64}
    photo = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    jobs = [
        (settings_of({**common, "prompt": "a cat", "seed": 1, "n_samples": 2}, TextJob), {}),
        (settings_of({**common, "prompt": "a red dog", "seed": 9, "scale": 2.5}, TextJob), {}),
        (settings_of({**common, "prompt": "x", "seed": 3, "sampler": "euler_a"}, TextJob), {}),
        (settings_of({**common, "prompt": "a cat", "seed": 1}, PictureJob), {"image": photo}),
        (settings_of({**common, "prompt": "b", "seed": 4}, PictureJob), {"image": photo}),
        (settings_of({**common, "seed": 5}, MaskJob), {"image": photo, "mask": mask}),
    ]
    expected = [alone(pipeline, settings, **pictures) for settings, pictures in jobs]
    drawer = PipelineDrawer(pipeline)
    service = Service(lambda: drawer, terms=Terms(batch_size=8, max_wait=0.5))
    service.start()
    try:
        assert service.loaded.wait(20.0)
        for _ in range(2):  # alone or first of a batch, and among others of before
            tickets = [
                service.submit(settings, f"key {number}", **pictures)
                for number, (settings, pictures) in enumerate(jobs)
            ]
            for ticket, files in zip(tickets, expected, strict=True):
                assert ticket.wait(60.0), ticket.snapshot()
                assert [each.png for each in ticket.pictures] == files, ticket.snapshot()
    finally:
        assert service.close(60.0)


def test_a_prompt_whose_end_is_cut_off_is_said_to_its_owner(pipeline):
    drawer = PipelineDrawer(pipeline)
    request = drawer.prepare(single(settings_of({"prompt": "cat " * 100}))[0])
    assert any("its end is not used" in text for text in drawer.notices(request))
    request = drawer.prepare(single(settings_of({"prompt": "cat"}))[0])
    assert not any("its end is not used" in text for text in drawer.notices(request))


def test_words_that_the_model_does_not_know_are_said_to_their_owner(pipeline):
    request = PipelineDrawer(pipeline).prepare(single(settings_of({"prompt": "a castle"}))[0])
    assert not any("does not know" in text for text in said_of(request))  # it lists none
    choice = replace(request.choice, knows=("a", "cat"))
    (said,) = (text for text in said_of(replace(request, choice=choice)) if "not know" in text)
    assert "castle" in said
    (empty,) = single(settings_of({"prompt": ""}))
    assert not any("empty" in text for text in said_of(PipelineDrawer(pipeline).prepare(empty)))


def test_what_a_sampler_does_otherwise_than_asked_is_said_and_prompts_are_not(pipeline):
    drawer, seen = PipelineDrawer(pipeline), []
    fields = {"prompt": "cat " * 100, "ddim_steps": 3, "spacing": "uniform"}
    drawn = drawer.draw([drawer.prepare(single(settings_of(fields))[0])], seen.append)
    assert [index for index, _ in drawn] == [0]
    (said,) = (event.text for event in seen if isinstance(event, Notice))
    assert said.startswith("3 steps asked, 4 taken") and "cat" not in said


def test_a_job_is_taken_apart_into_pictures_of_consecutive_seeds():
    parts = single(Txt2ImgSettings(n_iter=2, n_samples=3, seed=10, seed_mode="compvis"))
    assert [each.seed for each in parts] == list(range(10, 16))
    assert {(each.n_iter, each.n_samples, each.seed_mode) for each in parts} == {
        (1, 1, "per-image")
    }


def test_the_last_seed_has_to_be_one():
    assert len(single(Txt2ImgSettings(n_iter=1, n_samples=2, seed=MAX_SEED - 1))) == 2
    with pytest.raises(UserError, match="--seed"):
        single(Txt2ImgSettings(n_iter=1, n_samples=2, seed=MAX_SEED))


def test_a_picture_without_a_face_is_said_by_its_seed(pipeline, tmp_path, monkeypatch):
    file = tmp_path / "white.pth"
    file.touch()
    network = replace(restorer_of(lambda x: (x, None)), path=file)
    monkeypatch.setattr(facing, "_loaded", lambda *_: network)
    monkeypatch.setattr(facing, "detector_of", lambda _: lambda _: [])
    asked = {"prompt": "a cat", "ddim_steps": 2, "W": 64, "H": 64, "seed": 5, "n_samples": 2}
    drawer, said = PipelineDrawer(pipeline), []
    for each in single(replace(settings_of(asked), restore_faces=str(file))):
        list(drawer.draw([drawer.prepare(each)], lambda event: said.append(event)))
    texts = [event.text for event in said if isinstance(event, Notice)]
    assert texts == [f"seed {n}: no face was found, and nothing redrawn" for n in (5, 6)]
