"""Samples of every kind of model: each depends on its number, its class and nothing else."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from family_models import family_config, write_family_model
from omegaconf import OmegaConf
from running import ROOT
from tiny_inpainting import SIGHTED, write_inpainting_model

from ldm.checkpoint.load import load_model
from ldm.config import load_config
from ldm.errors import UserError
from ldm.models.diffusion.classifier import NoisyLatentImageClassifier
from ldm.pipelines.cancelling import Cancel, Cancelled
from ldm.pipelines.progress import Progress
from ldm.pipelines.samples import SampleRun, class_count
from ldm.settings.samplers import SAMPLERS
from ldm.settings.samples import SampleSettings
from ldm.util import instantiate_from_config

SHORT = SampleSettings(n_samples=3, batch_size=2, custom_steps=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a function that loads a kind of model once."""
    root, loaded = tmp_path_factory.mktemp("family"), {}

    def model(kind: str):
        if kind not in loaded:
            folder = write_family_model(root / kind, kind)
            loaded[kind] = load_model(folder / "config.yaml", folder / "model.safetensors")[0]
        return loaded[kind]

    model.folder = lambda kind: (model(kind), root / kind)[1]
    return model


def draw(model, settings=SHORT, first=0, observer=lambda event: None, **options) -> dict:
    return dict(SampleRun(model, settings, observer, **options).pictures(first))


def test_a_run_that_is_cancelled_keeps_what_was_yielded_and_leaves_the_model_as_it_was(models):
    model, token, kept = models("unconditional"), Cancel(), []
    with pytest.raises(Cancelled):
        for number, _ in SampleRun(model, SHORT, lambda _: None, cancel=token).pictures():
            kept.append(number)
            if number == 1:
                token.cancel()
    assert kept == [0, 1]
    assert not any(each._forward_pre_hooks for each in model.modules())


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    # Kernels for another batch size may end one level apart.
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("kind", ["unconditional", "vq", "pixels"])
def test_unconditional_models_are_drawn_in_batches_of_which_the_last_may_be_short(models, kind):
    side = 8 if kind == "pixels" else 16
    drawn = draw(models(kind))
    assert list(drawn) == [0, 1, 2]
    assert {picture.shape for picture in drawn.values()} == {(side, side, 3)}
    assert not np.array_equal(drawn[0], drawn[1])


def test_fewer_samples_than_a_batch_are_drawn(models):
    assert list(draw(models("unconditional"), replace(SHORT, n_samples=1, batch_size=10))) == [0]


def test_a_picture_is_the_same_in_every_batch_and_when_a_run_is_continued(models):
    whole = draw(models("class"), replace(SHORT, n_samples=4, batch_size=4, class_label=(1, 3)))
    settings = replace(SHORT, n_samples=4, batch_size=3, class_label=(1, 3))
    for number, picture in draw(models("class"), settings, first=2).items():
        assert equal(picture, whole[number]), number
    (alone,) = draw(
        models("class"), replace(SHORT, n_samples=1, seed=43, class_label=(3,))
    ).values()
    assert equal(alone, whole[1])


def test_the_class_decides_what_is_drawn(models):
    one, other = (draw(models("class"), replace(SHORT, class_label=(c,))) for c in (0, 2))
    assert not equal(one[0], other[0])


def test_scale_leads_away_from_the_last_class(models):
    model, settings = models("class"), replace(SHORT, n_samples=1, class_label=(4,))
    plain = draw(model, settings)[0]
    # Away from the class itself leads nowhere.
    assert equal(draw(model, replace(settings, scale=7.0))[0], plain)
    other = replace(settings, class_label=(1,))
    assert not equal(draw(model, replace(other, scale=7.0))[0], draw(model, other)[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws(models, sampler):
    assert len(draw(models("unconditional"), replace(SHORT, n_samples=1, sampler=sampler))) == 1


def test_vanilla_sampling_takes_every_training_step_and_pixels_are_clipped(models):
    run = SampleRun(models("pixels"), replace(SHORT, vanilla_sample=True), lambda event: None)
    assert run.sampler.steps == models("pixels").num_timesteps == 100
    assert run.sampler.clip_denoised
    latents = SampleRun(models("unconditional"), replace(SHORT, vanilla_sample=True), print)
    assert not latents.sampler.clip_denoised
    assert len(dict(run.pictures())) == 3


def test_a_model_with_averages_draws_with_them(models):
    torch.manual_seed(0)
    config = family_config("unconditional")
    config["model"]["params"]["use_ema"] = True
    model = instantiate_from_config(OmegaConf.create(config).model).eval()
    before = draw(model)[0]
    for weight in model.model.parameters():
        weight.data.add_(0.1)
    assert np.array_equal(draw(model)[0], before)


def test_progress_is_told_to_the_last_step(models):
    events = []
    draw(models("unconditional"), observer=events.append)
    assert all(isinstance(event, Progress) for event in events)
    last = events[-1]
    assert (last.done, last.pictures) == (last.total, last.total_pictures) == (6, 3)
    assert [event.done for event in events] == sorted(event.done for event in events)


def test_a_classifier_leads_an_unconditional_model(models):
    torch.manual_seed(0)
    judge = NoisyLatentImageClassifier(
        str(models.folder("unconditional")), 3, pool="adaptive", label_key="class_label"
    ).eval()
    torch.nn.init.normal_(judge.model.out[3].weight)
    settings = replace(SHORT, n_samples=1, class_label=(2,), custom_steps=5, classifier_scale=0.0)
    plain = draw(models("unconditional"), replace(settings, class_label=()))
    still = draw(models("unconditional"), settings, classifier=judge)
    assert equal(still[0], plain[0])
    led = draw(models("unconditional"), replace(settings, classifier_scale=50.0), classifier=judge)
    assert not equal(led[0], plain[0])


def test_the_number_of_classes_is_read_from_the_model(models):
    assert class_count(models("class")) == 5
    assert class_count(models("unconditional")) is None
    assert class_count(models("pixels")) is None


def test_the_published_models_configuration_has_a_class_for_none():
    config = load_config(ROOT / "configs" / "latent-diffusion" / "cin256-v2.yaml")
    with torch.device("meta"):
        model = instantiate_from_config(config.model)
    run = SampleRun(model, replace(SHORT, class_label=(1000,)), lambda event: None)
    assert class_count(model) == 1001 and run.shape == (3, 64, 64)


def test_a_unet_that_sees_more_than_what_is_diffused_is_told(tmp_path):
    ckpt = write_inpainting_model(tmp_path, SIGHTED)
    model, _ = load_model(tmp_path / "config.yaml", ckpt)
    with pytest.raises(UserError, match=r"9 channels, and 4 are diffused.*scripts/inpaint\.py"):
        SampleRun(model, replace(SHORT, prompt="a cat"), lambda event: None)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("class", {}, "draws classes 0 to 4.*--class_label 0-4"),
        ("class", {"class_label": (5,)}, "--class_label 5 .*0 to 4"),
        ("class", {"class_label": (1,), "prompt": "a cat"}, "--prompt"),
        ("unconditional", {"class_label": (1,)}, "has no classes"),
        ("unconditional", {"prompt": "a cat"}, "unconditional"),
        ("unconditional", {"scale": 3.0}, "unconditional"),
        ("upscaling", {}, "conditioned on 'LR_image'.*scripts/upscale.py"),
    ],
)
def test_what_does_not_go_with_the_model_is_told_in_one_line(models, kind, values, words):
    with pytest.raises(UserError, match=words) as caught:
        SampleRun(models(kind), replace(SHORT, **values), lambda event: None)
    assert "\n" not in str(caught.value)


def test_a_size_that_the_unet_cannot_halve_is_told(models, monkeypatch):
    model = models("unconditional")
    monkeypatch.setattr(model, "image_size", 7)
    with pytest.raises(UserError, match="image_size is 7.*multiples of 2"):
        draw(model)


@pytest.mark.parametrize(("batch_size", "smaller"), [(2, True), (1, False)])
def test_a_smaller_batch_is_advised_only_where_there_is_one(
    models, batch_size, smaller, monkeypatch
):
    def explode(self, *given):
        raise MemoryError

    monkeypatch.setattr(SampleRun, "_draw", explode)
    with pytest.raises(UserError, match=f"{batch_size} pictures at a time") as caught:
        draw(models("unconditional"), replace(SHORT, n_samples=2, batch_size=batch_size))
    assert ("--batch_size" in str(caught.value)) is smaller
    assert "--device cpu" not in str(caught.value)  # it is computed there already


def test_weights_with_nan_are_named(models):
    model = copy.deepcopy(models("unconditional"))
    name = "model.diffusion_model.out.2.weight"
    with torch.no_grad():
        model.get_parameter(name).fill_(float("nan"))
    with pytest.raises(UserError, match=re.escape(f"weights hold NaN or infinity ({name})")):
        draw(model)
