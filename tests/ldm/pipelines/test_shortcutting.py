"""Shortcuts in a run: said in a line, in the pictures' metadata, and in every kind of run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from control_parts import make_net
from drawing import draw, image_settings, pixels_of, said, staged_on_processor, text_settings
from PIL import Image
from tiny_decoders import tiny

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.modules.attention_control.moments import LISTENERS
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.shortcutting import calls_by_step, computed_calls, shortened
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.samplers import SAMPLERS
from ldm.settings.swap import SwapSettings
from ldm.settings.upscale_tile import TileUpscaleSettings

ON = {
    "reuse": {"reuse": "2"},
    "merge": {"merge_tokens": 0.5},
    "interval": {"guidance_interval": "0.25:0.75"},
    "rescale": {"guidance_rescale": 0.7},
    "freeu": {"freeu": "1.5,1.6,0.9,0.2"},
    "turns": {"batch_cfg": "off"},
}
ALL = {name: value for each in ON.values() for name, value in each.items()}
each_one = pytest.mark.parametrize("on", ON.values(), ids=ON)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    tiny(widths=(8, 8), blocks=(1, 1)).save_pretrained(folder)
    return folder


def drawn(pipeline, settings, **rest):
    return pixels_of(draw(pipeline, settings, **rest)[0])


def one(**changes):
    return text_settings(n_samples=1, n_iter=1, **changes)


@pytest.fixture(scope="module")
def plain(pipeline):
    return drawn(pipeline, one())


@pytest.mark.parametrize(
    "on",
    [
        {"reuse": "1"},
        {"guidance_interval": "0:1"},
        {"freeu": "1,1,1,1"},
        {"merge_tokens": 0.0},
        {"guidance_rescale": 0.0},
    ],
    ids=str,
)
def test_what_changes_nothing_draws_the_plain_picture(pipeline, plain, on):
    assert np.array_equal(drawn(pipeline, one(**on)), plain)


@each_one
def test_each_says_in_one_line_what_it_is_and_leaves_no_trace(pipeline, plain, on):
    pictures, events = draw(pipeline, one(**on))
    (name, value), *_ = on.items()
    lines = [text for text in said(events) if text.startswith(f"--{name} {value}")]
    assert len(lines) == 1 and "\n" not in lines[0] and "pictures differ" in lines[0]
    difference = np.abs(pixels_of(pictures).astype(int) - plain.astype(int)).max()
    assert difference <= 1 if name == "batch_cfg" else difference > 0
    assert np.array_equal(drawn(pipeline, one()), plain) and not len(LISTENERS)


def test_the_lines_count_the_calls_of_the_model(pipeline):
    on = {"reuse": "3", "guidance_interval": "0:0.5"}
    for sampler, calls, guided in (("ddim", 4, 2), ("heun", 7, 4), ("plms", 5, 3)):
        lines = said(draw(pipeline, one(sampler=sampler, **on))[1])
        assert f"--reuse 3: the deep blocks are computed in {-(-calls // 3)} of {calls} calls" in (
            "".join(lines)
        )
        assert any(f"{guided} of {calls} calls are guided" in line for line in lines)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_samplers_calls_are_counted_as_it_makes_them(pipeline, sampler):
    from ldm.pipelines.walks import sampler_for

    settings = one(sampler=sampler)
    counted, model = [], pipeline.model
    hook = model.model.register_forward_hook(lambda *_: counted.append(1))
    drawn(pipeline, settings)
    hook.remove()
    made = sampler_for(settings, _silent(model))
    assert sum(calls_by_step(made, made.steps)) == len(counted)


def _silent(model):
    from ldm.pipelines.walks import Silenced

    return Silenced(model)


def test_a_call_with_rows_that_are_not_known_computes_too():
    guided = [False, False, True, True, False, False]
    assert computed_calls(guided, 6) == 2  # the first, and the first with both rows
    assert computed_calls(guided, 2) == 3
    assert computed_calls([True] * 7, 3) == 3


@pytest.mark.parametrize("on", [*ON.values(), ALL], ids=[*ON, "all"])
def test_a_picture_is_drawn_again_from_its_own_file(pipeline, tmp_path, on):
    (picture,), _ = draw(pipeline, one(**on))
    save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters)
    recorded = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    assert {name: recorded.values[name] for name in on} == on and not recorded.notices
    again = drawn(pipeline, replace(one(), **{n: recorded.values[n] for n in on}))
    assert np.array_equal(again[0], picture.pixels)


def test_plain_pictures_record_none(pipeline):
    (picture,), _ = draw(pipeline, one())
    for key in (
        "Feature reuse",
        "Token merging",
        "Guidance",
        "Zero",
        "FreeU",
        "Decoder",
        "Batch CFG",
    ):
        assert f"{key}" not in picture.parameters.replace("CFG scale", "")


@each_one
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_pictures_are_redrawn_and_repainted_with_them(pipeline, init_img, tmp_path, on, kind):
    settings = image_settings(init_img, n_samples=1, strength=0.75)
    if kind == "mask":
        mask = np.zeros((12, 16), np.uint8)
        mask[:, 8:] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        settings = InpaintSettings(
            prompt="a cat", ddim_steps=4, n_samples=1, init_img=str(init_img),
            mask=str(tmp_path / "mask.png"),
        )  # fmt: skip
    plain, shortened = drawn(pipeline, settings), drawn(pipeline, replace(settings, **on))
    assert shortened.shape == plain.shape
    if kind == "mask":
        assert np.array_equal(shortened[..., :8, :], plain[..., :8, :])


@pytest.mark.parametrize("on", [*ON.values(), ALL], ids=[*ON, "all"])
def test_a_picture_with_a_seed_of_its_own_is_the_same_in_every_batch(pipeline, on):
    settings = text_settings(seed_mode="per-image", n_iter=1, **on)
    three = drawn(pipeline, replace(settings, n_samples=3))
    alone = drawn(pipeline, replace(settings, n_samples=1, seed=settings.seed + 1))
    # Batches of other sizes take other kernels: the last digits, one level at most.
    assert np.abs(three[1].astype(int) - alone[0].astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["per-image", "compvis"])
def test_what_is_merged_follows_the_runs_seed_where_pictures_have_none_of_their_own(
    pipeline, monkeypatch, mode
):
    from ldm.shortcuts import merging

    own, found = merging.match, []

    def match(x, side, ratio, generator):
        found[-1].append(generator.initial_seed())
        return own(x, side, ratio, generator)

    monkeypatch.setattr(merging, "match", match)
    for seed in (1, 2):
        found.append([])
        drawn(pipeline, one(seed=seed, seed_mode=mode, merge_tokens=0.5))
    assert found[0] and (found[0] == found[1]) == (mode == "per-image")


def test_a_sampler_has_its_own_guidance_back(pipeline):
    from ldm.pipelines.walks import sampler_for

    settings = one(guidance_rescale=0.7)
    made = sampler_for(settings, pipeline.model)
    before = made.around
    with shortened(pipeline.model, settings, made):
        assert made.around is not before
    assert made.around is before and not len(LISTENERS)


@pytest.mark.parametrize("on", [*ON.values(), ALL], ids=[*ON, "all"])
def test_a_model_whose_parts_take_turns_draws_the_same(pipeline, tiny_ckpt, on):
    settings = LowMemoryTxt2ImgSettings(
        prompt="a cat", ddim_steps=4, n_samples=2, seed=1, sampler="ddim", **on
    )
    staged = staged_on_processor(tiny_ckpt)
    ours, whole = drawn(staged, settings), drawn(pipeline, settings)
    assert np.abs(ours.astype(int) - whole.astype(int)).max() <= 1


def test_streamed_layers_and_rows_in_turns_reuse_alike(tiny_ckpt):
    from ldm.checkpoint.load import load_model
    from ldm.models.diffusion.sampler_registry import make_sampler
    from ldm.offload.plan import PlanSettings, StagePlan
    from ldm.pipelines.models import find_model
    from ldm.shortcuts.reuse import reusing

    choice = find_model(Txt2ImgSettings(ckpt=str(tiny_ckpt)))
    model, _ = load_model(choice.config, choice.ckpt_path)

    def walk():
        made = make_sampler("ddim", model, spacing="linspace")
        made.make_schedule(4, verbose=False)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 4, 8, 8, generator=generator)
        cond, uncond = torch.randn(2, 2, 77, 32, generator=generator)
        options = {"unconditional_guidance_scale": 3.0, "unconditional_conditioning": uncond}
        for state in made.walk(x, cond, **options):
            x = state.x
        return x

    with reusing(model, 2):
        expected = walk()
        for rows in (None, 1):  # latents of a random model are of the order of 30
            plan = StagePlan(model, PlanSettings("stream", unet_rows=rows), torch.device("cpu"))
            plan.attach()
            assert torch.allclose(walk(), expected, rtol=1e-4, atol=1e-3)
            plan.detach()


def test_each_tile_of_a_large_picture_reuses_its_own_features(pipeline):
    settings = TileUpscaleSettings(prompt="a cat", ddim_steps=4, strength=1.0, tile=8, overlap=2)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    block, counts, drawn = pipeline.model.model.diffusion_model.middle_block, [], []
    for reuse in (None, "1", "2"):
        counted = []
        hook = block.register_forward_hook(lambda *_, counted=counted: counted.append(1))
        given = {"image": Image.fromarray(pixels), "observer": lambda _: None}
        pictures = pipeline.generate(replace(settings, reuse=reuse), **given)
        drawn.append(next(pictures).pixels)
        pictures.close()
        hook.remove()
        counts.append(len(counted))
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert counts[0] == counts[1] == 2 * counts[2] > 8


@each_one
def test_a_controlnet_acts_with_them(pipeline, on):
    from control_parts import drawing as hint

    settings = one(**on)
    plain = drawn(pipeline, settings)
    handle = make_net_handle(pipeline.model, hint)
    with handle:
        assert not np.array_equal(drawn(pipeline, settings), plain)
    assert np.array_equal(drawn(pipeline, settings), plain)


def make_net_handle(model, hint):
    from ldm.adapters.control.drawn import Options
    from ldm.adapters.control.hints import Hint
    from ldm.adapters.control.lent import Lent
    from ldm.adapters.control.nets import NetHandle

    net = make_net(model)
    return NetHandle(model, Lent(net), Hint(hint(), "stretch", 8, 1), 1.0, Options())


def test_edits_by_attention_go_with_all_that_shows_every_layer(pipeline):
    settings = SwapSettings(
        prompt="a dog", sprompt="a cat", is_swap=True, ddim_steps=4, n_samples=1, n_iter=1
    )
    plain = drawn(pipeline, settings)
    turns = drawn(pipeline, replace(settings, batch_cfg="off"))
    assert np.abs(turns.astype(int) - plain.astype(int)).max() <= 1
    for on in (ON["interval"], ON["rescale"], ON["freeu"]):
        assert not np.array_equal(drawn(pipeline, replace(settings, **on)), plain)
    for on, flag in ((ON["reuse"], "--reuse 2"), (ON["merge"], "--merge_tokens 0.5")):
        with pytest.raises(UserError, match=f"{flag} was given with edits or maps by attention"):
            drawn(pipeline, replace(settings, **on))


def test_prompts_of_several_parts_are_refused_where_guidance_has_to_stand_apart(pipeline):
    settings = one(prompt="a cat AND a dog", prompt_syntax="a1111")
    with pytest.raises(UserError, match="--guidance_interval was given with a prompt of several"):
        drawn(pipeline, replace(settings, guidance_interval="0.2:0.8"))
    changing = one(prompt="a [cat:dog:0.5]", prompt_syntax="a1111", guidance_interval="0.2:0.8")
    assert drawn(pipeline, changing).any()


def test_an_eps_model_cannot_begin_in_pure_noise(pipeline):
    settings = one(zero_terminal_snr=True, spacing="trailing")
    with pytest.raises(UserError, match="predicts eps; expected one that predicts v"):
        drawn(pipeline, settings)


def test_memory_is_planned_for_the_rows_that_are_computed_at_once(pipeline):
    assert pipeline.prepare(one()).rows_per_picture == 2
    assert pipeline.prepare(one(batch_cfg="off")).rows_per_picture == 1


def test_a_tiny_decoder_decodes_and_is_recorded_with_its_hash(pipeline, plain, decoder, tmp_path):
    settings = one(decoder=str(decoder))
    (picture,), events = draw(pipeline, settings)
    assert not np.array_equal(picture.pixels, plain[0])
    assert any(text.startswith(f"--decoder {decoder}: decodes") for text in said(events))
    save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters)
    recorded = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    file = decoder / "diffusion_pytorch_model.safetensors"
    assert recorded.values["decoder"] == str(file) and not recorded.notices
    again = drawn(pipeline, replace(settings, decoder=recorded.values["decoder"]))
    assert np.array_equal(again[0], picture.pixels)
    shutil.copy(file, tmp_path / "kept")
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    try:
        with pytest.raises(UserError, match="has changed since.*--decoder"):
            read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    finally:
        shutil.copy(tmp_path / "kept", file)


def test_a_decoder_for_other_latents_is_refused_before_anything_is_drawn(pipeline, tmp_path):
    tiny().save_pretrained(tmp_path / "tiny")
    with pytest.raises(UserError, match="the model's latents have 4 channels and a factor of 2"):
        drawn(pipeline, one(decoder=str(tmp_path / "tiny")))
