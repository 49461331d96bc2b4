"""Adapters in a run: from flags and tags, and for its time alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from adapter_shelves import write_random_lora
from drawing import draw, drawn, image_settings, pixels_of, said, text_settings
from PIL import Image

from ldm.adapters.lora import read_lora
from ldm.adapters.textual_inversion import read_embedding
from ldm.errors import UserError
from ldm.pipelines.cancelling import Cancel
from ldm.pipelines.progress import Progress
from ldm.pipelines.shown_hints import area_of, hint_pictures, shown
from ldm.settings.inpaint import InpaintSettings

HATTED = "a cat <lora:hat:0.5>"

pytestmark = pytest.mark.usefixtures("at_shelves")


@pytest.fixture(scope="module")
def plain(pipeline):
    return drawn(pipeline)


def test_a_flag_a_tag_and_a_handle_draw_the_same_picture(pipeline, plain):
    state = {name: value.clone() for name, value in pipeline.model.state_dict().items()}
    by_flag = drawn(pipeline, lora=("styles/hat.safetensors:0.5",))
    by_tag = drawn(pipeline, prompt="a cat<lora:hat:0.5>")
    with read_lora("models/lora/styles/hat.safetensors").attach(pipeline.model, 0.5):
        by_hand = drawn(pipeline)
    assert not np.array_equal(by_flag, plain)
    assert np.array_equal(by_flag, by_hand) and np.array_equal(by_tag, by_hand)
    assert np.array_equal(drawn(pipeline), plain)
    after = pipeline.model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in after.items())


def test_scales_of_the_unet_and_the_text_encoder_are_two(pipeline):
    unet_alone = drawn(pipeline, lora=("hat:0.5:0",))
    assert np.array_equal(unet_alone, drawn(pipeline, prompt="a cat<lora:hat:0:0.5>"))
    assert not np.array_equal(unet_alone, drawn(pipeline, lora=("hat:0.5",)))


def test_the_scales_of_a_lora_that_is_named_twice_are_added(pipeline):
    twice = drawn(pipeline, prompt="a cat<lora:hat:0.5>", lora=("hat:0.25",))
    assert np.array_equal(twice, drawn(pipeline, lora=("hat:0.75",)))


def test_each_batch_has_the_loras_of_its_own_prompt(pipeline):
    prompts = ["a cat", "a cat<lora:hat:0.5>", "a cat<lora:ink:1>", "a cat<lora:ink:0.5>"]
    settings = text_settings(n_samples=1, n_iter=1, seed_mode="per-image")
    together, _ = draw(pipeline, settings, prompts=prompts)
    for number, prompt in enumerate(prompts):
        alone = drawn(pipeline, prompt=prompt, seed_mode="per-image", seed=42 + number)
        assert np.array_equal(together[number].pixels, alone[0])


def test_different_tags_in_one_batch_are_refused_before_anything_is_drawn(pipeline):
    settings = text_settings(n_samples=2, n_iter=1)
    prompts = ["a", "b", "c <lora:hat:1>", "d <lora:hat:0.5>"]
    events = []
    with pytest.raises(UserError, match="in one batch.*--n_samples 1"):
        list(pipeline.generate(settings, prompts=prompts, observer=events.append))
    assert not any(isinstance(event, Progress) for event in events)


def test_what_was_attached_is_gone_after_an_error_and_an_early_end(pipeline, plain):
    run = pipeline.generate(text_settings(n_iter=3, prompt=HATTED, embedding=("sunny",)))
    next(run)
    run.close()
    assert np.array_equal(drawn(pipeline), plain)

    def fail(event):
        if isinstance(event, Progress) and event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline.generate(text_settings(prompt=HATTED), observer=fail))
    assert np.array_equal(drawn(pipeline), plain)
    assert not vars(pipeline.model.cond_stage_model.tokenizer).keys() & {"encode", "offsets"}


def test_embeddings_act_in_both_prompts(pipeline):
    changes = {"prompt": "a sunny cat", "negative_prompt": "rainy"}
    both = drawn(pipeline, embedding=("sunny", "rainy"), **changes)
    paths = [f"models/embeddings/{name}.pt" for name in ("sunny", "rainy")]
    with read_embedding(paths[0]).attach(pipeline.model):
        one = drawn(pipeline, **changes)
        with read_embedding(paths[1]).attach(pipeline.model):
            assert np.array_equal(both, drawn(pipeline, **changes))
    assert not np.array_equal(both, one)


def test_each_file_is_told_of_once(pipeline):
    settings = text_settings(n_samples=1, n_iter=2, prompt=HATTED, embedding=("sunny",))
    texts = said(draw(pipeline, settings)[1])
    assert sum("LoRA 'hat.safetensors', kohya format" in text for text in texts) == 1
    assert sum("'sunny.pt', AUTOMATIC1111 format" in text for text in texts) == 1


def test_a_file_is_read_once_and_again_when_it_has_changed(pipeline, monkeypatch, tmp_path):
    from ldm.adapters import lora as package

    read, own = [], package.read_lora
    monkeypatch.setattr(package, "read_lora", lambda path: read.append(path) or own(path))
    path = write_random_lora(tmp_path / "new.safetensors", pipeline.model, seed=7)
    first = drawn(pipeline, lora=(str(path),))
    assert np.array_equal(drawn(pipeline, lora=(str(path),)), first)
    assert len(read) == 1
    path.unlink()
    write_random_lora(path, pipeline.model, seed=8)
    assert not np.array_equal(drawn(pipeline, lora=(str(path),)), first)
    assert len(read) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a <lora:hut:1>"}, "'<lora:hut:1>' in a prompt is no file.*nearest are 'hat'"),
        ({"prompt": "a <lora:hat:x>"}, "scale 'x' of '<lora:hat:x>' in a prompt is no number"),
        ({"lora": ("nothing.pt",)}, "--lora 'nothing.pt' is no file"),
        ({"embedding": ("snowy",)}, "--embedding 'snowy' is no file"),
        ({"control": ("cany=net:photo.png",)}, "--control 'cany'= was given; expected hint, t2i"),
        ({"control": ("canny=net:gone.png",)}, "gone.png does not exist; expected a picture"),
        ({"control": ("depth=net:photo.png",)}, "scripts/hint.py --kind depth --model FOLDER"),
        ({"control": ("inpaint=net:photo.png",)}, "without anything to paint"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(changes, message, pipeline):
    with pytest.raises(UserError, match=message) as caught:
        list(pipeline.generate(text_settings(**changes)))
    assert "\n" not in str(caught.value)


def test_a_tag_in_the_negative_prompt_is_taken_out_and_said(pipeline, plain):
    pictures, events = draw(
        pipeline, text_settings(n_samples=1, n_iter=1, negative_prompt="<lora:hat:1>")
    )
    assert np.array_equal(pixels_of(pictures), plain)
    assert any("in the negative prompt is taken out" in text for text in said(events))


@pytest.mark.parametrize("kind", ["canny", "hint", "tile", "reference"])
def test_a_control_looks_at_its_picture(kind, pipeline, plain):
    file = "" if kind == "reference" else "net:"
    first = drawn(pipeline, control=(f"{kind}={file}photo.png",))
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, drawn(pipeline, control=(f"{kind}={file}other.png",)))
    assert np.array_equal(drawn(pipeline), plain)


def test_a_control_of_scale_0_and_one_that_ends_at_once_do_nothing(pipeline, plain):
    assert np.array_equal(drawn(pipeline, control=("hint=net:photo.png:0",)), plain)
    assert np.array_equal(drawn(pipeline, control=("hint=net:photo.png:1:0:0",)), plain)


def test_a_hint_is_made_of_the_picture_at_the_size_that_is_drawn(pipeline):
    from ldm.hints.make import make_hint

    with Image.open("photo.png") as image:
        middle = image.crop((0, 4, 16, 20))  # what is left of 16x24 pixels at 16x16
    make_hint("canny", middle).save("hint.png")
    made = drawn(pipeline, control=("canny=net:photo.png",))
    assert np.array_equal(made, drawn(pipeline, control=("hint=net:hint.png",)))


def test_a_run_is_cancelled_within_its_controls_too(pipeline):
    class Counting(Cancel):
        looks = 0

        def check(self):
            self.looks += 1

    looks = []
    for control in ((), ("hint=net:photo.png",)):
        token = Counting()
        draw(pipeline, text_settings(n_samples=1, n_iter=1, control=control), cancel=token)
        looks.append(token.looks)
    assert looks[1] > 1.3 * looks[0]


def test_where_an_area_alone_is_drawn_its_controls_lie_over_it_and_it_is_said(pipeline):
    mask = Image.new("L", (40, 30))
    mask.paste(255, (4, 4, 10, 10))
    given = {"image": Image.new("RGB", mask.size), "mask": mask}
    settings = InpaintSettings(prompt="a cat", ddim_steps=4, control=("hint=net:photo.png",))
    for area in (None, 4):
        _, events = draw(pipeline, replace(settings, only_masked=area, n_samples=1), **given)
        told = any("lie over the area that is drawn" in text for text in said(events))
        assert told == (area is not None)


def test_a_picture_as_large_as_the_whole_is_cropped_to_the_area_that_is_drawn(pipeline):
    whole = Image.open("photo.png").resize((40, 30))
    whole.save("whole.png")
    mask = Image.new("L", whole.size)
    mask.paste(255, (4, 4, 10, 10))
    settings = InpaintSettings(prompt="a cat", ddim_steps=4, only_masked=4, n_samples=1)
    both = replace(settings, control=("hint=net:whole.png", "hint=net:photo.png"))
    request = pipeline.prepare(both, image=whole, mask=mask)
    area = area_of(request)
    assert area.whole == whole.size and area.box != (0, 0, *whole.size)
    same, other = (
        shown(each, request.size, request.image.mask, area) for each in request.adapters.controls
    )
    part = whole.crop(area.box).resize(request.size[::-1], Image.Resampling.LANCZOS)
    assert np.array_equal(same, part)
    assert other.size == Image.open("photo.png").size
    pictures = [each.pixels for each in hint_pictures(request)]
    assert np.array_equal(pictures[0], part), "--hint_only shows the same"


def test_what_a_picture_leaves_transparent_is_painted(pipeline):
    with Image.open("photo.png") as image:
        alpha = Image.new("L", image.size, 255)
        alpha.paste(0, (0, 0, 16, 12))
        image.putalpha(alpha)
        image.save("part.png")
    assert drawn(pipeline, control=("inpaint=net:part.png",)).any()


def test_adapters_act_on_pictures_that_start_from_one(pipeline):
    settings = image_settings("photo.png", n_samples=1)
    before = pixels_of(draw(pipeline, settings)[0])
    acting = {"lora": ("ink",), "control": ("hint=net:photo.png",)}
    changed = image_settings("photo.png", n_samples=1, **acting)
    assert not np.array_equal(pixels_of(draw(pipeline, changed)[0]), before)


def test_an_embedding_on_its_shelf_is_called_by_its_name_in_the_grammar_alone(pipeline):
    words = {"prompt": "a (Sunny:1.2) cat", "negative_prompt": "embedding:rainy"}
    called = drawn(pipeline, prompt_syntax="a1111", **words)
    given = drawn(pipeline, prompt_syntax="a1111", embedding=("sunny", "rainy"), **words)
    assert np.array_equal(called, given)
    texts = said(draw(pipeline, text_settings(n_samples=1, n_iter=1, **words))[1])
    assert not any("textual inversion" in text for text in texts)


def test_the_negative_prompt_is_encoded_anew_where_the_loras_change(pipeline):
    prompts = ["a cat", "a cat <lora:hat:1>"]
    settings = text_settings(
        n_samples=1, n_iter=1, seed_mode="per-image", prompt_syntax="a1111", negative_prompt="dull"
    )
    together, _ = draw(pipeline, settings, prompts=prompts)
    alone, _ = draw(pipeline, replace(settings, prompt=prompts[1], seed=43))
    assert np.array_equal(together[1].pixels, alone[0].pixels)


def test_tags_are_not_said_to_be_plain_text(pipeline):
    texts = said(draw(pipeline, text_settings(n_samples=1, n_iter=1, prompt=HATTED))[1])
    assert not any("plain text" in text or "not attached" in text for text in texts)
    odd = "a cat <hypernet:x:1> <lora:hat:1>"
    settings = text_settings(n_samples=1, n_iter=1, prompt=odd, prompt_syntax="a1111")
    (text,) = [text for text in said(draw(pipeline, settings)[1]) if "not attached" in text]
    assert "hypernet" in text and "lora" not in text


def random(adapter):
    generator = torch.Generator().manual_seed(3)
    for value in adapter.requires_grad_(False).parameters():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return adapter


def test_an_ip_adapter_looks_at_its_picture_by_its_own_encoder(pipeline, plain, adapter_shelves):
    from ldm.adapters.ip_adapter import new_ip_adapter, write_ip_adapter

    adapter = random(new_ip_adapter(pipeline.model, encoder="first_stage 4"))
    write_ip_adapter(adapter, adapter_shelves / "models/controlnet/looks.safetensors")
    first = drawn(pipeline, control=("ip=looks:photo.png",))
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, drawn(pipeline, control=("ip=looks:other.png",)))
    with adapter.attach(pipeline.model, "photo.png"):
        assert np.array_equal(drawn(pipeline), first)


def test_gligen_draws_by_boxes(pipeline, plain, adapter_shelves):
    from ldm.adapters.gligen import new_gligen, write_gligen

    adapter = random(new_gligen(pipeline.model))
    write_gligen(adapter, adapter_shelves / "models/controlnet/boxes.safetensors")
    boxes = ("a cat:0,0,0.5,1",)
    first = drawn(pipeline, control=("gligen=boxes:1:0:1",), box=boxes)
    assert not np.array_equal(first, plain)
    with adapter.attach(pipeline.model, [("a cat", (0, 0, 0.5, 1))], 1.0):
        assert np.array_equal(drawn(pipeline), first)


def test_settings_without_effect_are_said(pipeline):
    settings = text_settings(n_samples=1, n_iter=1, control_mode="prompt", image_encoder="clip")
    texts = " ".join(said(draw(pipeline, settings)[1]))
    assert "--control_mode prompt has no effect" in texts
    assert "--image_encoder has no effect" in texts
