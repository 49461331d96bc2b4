"""Every dialect that diffusers reads gives what diffusers and peft compute, from the same weights.

And a file that we write gives there what it gives here.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import lora_files
import pytest
import torch
from narrow_models import write_narrow_model
from parity.peers import relative_error
from safetensors.torch import load_file

from ldm.adapters.lora import new_lora, read_lora, write_lora
from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers
from ldm.checkpoint.load import load_model
from ldm.models.diffusion.ddim import DDIMSampler

pytest.importorskip("peft")
diffusers = pytest.importorskip("diffusers")

PROMPT = "a red fox"
LAYERS = (*lora_files.ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "time_emb_proj")
EPS, PICTURE = 1e-5, 1e-4  # float32 sums in another order, over one call and over four steps


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A function: kind of model to ours and diffusers' pipeline with the same weights."""
    made = {}

    def make(kind):
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            ckpt, config = write_narrow_model(home, kind)
            to_diffusers(ckpt, home / "folder", config, Conversion())
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                home / "folder", local_files_only=True
            )
            pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
            pipe.set_progress_bar_config(disable=True)
            made[kind] = SimpleNamespace(model=load_model(config, ckpt)[0], pipe=pipe)
        return made[kind]

    return make


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def ours(model):
    words = model.get_learned_conditioning([PROMPT])
    return words, model.apply_model(normal(1, 4, 8, 8), torch.tensor([321]), words)


@torch.no_grad()
def theirs(pipe, path, scale=1.0):
    """What diffusers predicts with a file; its LoRA is gone afterwards."""
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    try:
        pipe.set_adapters(pipe.get_active_adapters(), adapter_weights=scale)
        words = pipe.encode_prompt([PROMPT], "cpu", 1, False)[0]
        return words, pipe.unet(normal(1, 4, 8, 8), torch.tensor([321]), words).sample
    finally:
        pipe.unload_lora_weights()


def pairs(pipe, layers=LAYERS, text=(*lora_files.TEXT, "fc1", "fc2"), **options):
    unet = lora_files.pairs_of(pipe.unet, layers, **options)
    return unet, lora_files.pairs_of(pipe.text_encoder, text, **options)


def assert_equal_to_theirs(twin, path, scale=1.0):
    plain = ours(twin.model)
    with read_lora(path, twin.model).attach(twin.model, scale):
        found = ours(twin.model)
    for own, there, without in zip(found, theirs(twin.pipe, path, scale), plain, strict=True):
        assert relative_error(own, there) < EPS
        assert relative_error(own, without) > 100 * EPS


@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize("dialect", ["kohya", "peft", "before_peft"])
def test_a_dialect_of_diffusers_gives_what_diffusers_computes(dialect, kind, twins, tmp_path):
    twin = twins(kind)
    tensors = getattr(lora_files, dialect)(*pairs(twin.pipe))
    assert_equal_to_theirs(twin, lora_files.save(tensors, tmp_path / "a.safetensors"), 0.7)


def test_the_oldest_dialect_of_attention_processors_gives_the_same(twins, tmp_path):
    twin = twins("v1")
    tensors = lora_files.oldest(*pairs(twin.pipe, lora_files.ATTENTION, lora_files.TEXT))
    assert_equal_to_theirs(twin, lora_files.save(tensors, tmp_path / "a.safetensors"))


def test_convolutions_and_the_time_embeddings_give_the_same(twins, tmp_path):
    twin = twins("v1")
    tensors = lora_files.peft(*pairs(twin.pipe, (*LAYERS, *CONVOLUTIONS, "samplers.0.conv")))
    path = lora_files.save(tensors, tmp_path / "a.safetensors")
    assert_equal_to_theirs(twin, path)
    assert not read_lora(path, twin.model).report.unused


def test_dora_of_peft_gives_the_same(twins, tmp_path):
    twin = twins("v1")
    # The UNet alone: transformers 5.24 leaves out the lengths when it loads a text encoder's.
    unet, _ = pairs(twin.pipe)
    tensors = lora_files.peft(unet, {})
    for name in unet:
        weight = twin.pipe.unet.get_submodule(name).weight.detach()
        length = weight.flatten(1).norm(dim=1) * (1 + 0.1 * normal(len(weight)))
        shaped = length.reshape(1, -1, 1, 1) if weight.ndim == 4 else length
        tensors[f"unet.{name}.lora_magnitude_vector"] = shaped
    path = lora_files.save(tensors, tmp_path / "a.safetensors")
    with read_lora(path, twin.model).attach(twin.model):
        found = ours(twin.model)[1]
    assert relative_error(found, theirs(twin.pipe, path)[1]) < EPS


def test_alphas_in_the_header_are_those_of_peft(twins, tmp_path):
    twin = twins("v1")
    unet, text = pairs(twin.pipe)
    path = tmp_path / "a.safetensors"
    lora = new_lora(twin.model, rank=3, alpha=6.0)
    fill(lora)
    write_lora(lora, path, "diffusers")
    assert len(lora.layers) == len(unet) + len(text)
    assert read_lora(path).report.alphas == [6.0]
    assert_equal_to_theirs(twin, path)


@torch.no_grad()
def fill(lora):
    generator = torch.Generator().manual_seed(3)
    for parameter in lora.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@torch.no_grad()
def test_what_we_write_draws_the_same_picture_in_diffusers(form, twins, tmp_path):
    twin = twins("v1")
    path = tmp_path / "a.safetensors"
    lora = new_lora(twin.model, rank=2, alpha=1.0)
    fill(lora)
    write_lora(lora, path, form)
    x = normal(1, 4, 8, 8)
    with lora.attach(twin.model):
        words, empty = (twin.model.get_learned_conditioning([text]) for text in (PROMPT, ""))
        options = {"unconditional_guidance_scale": 5.0, "unconditional_conditioning": empty}
        z, _ = DDIMSampler(twin.model).sample(
            4, 1, (4, 8, 8), words, x_T=x, verbose=False, **options
        )
        own = twin.model.decode_first_stage(z)
    twin.pipe.load_lora_weights(str(tmp_path), weight_name=path.name)
    try:
        there = twin.pipe(
            PROMPT, num_inference_steps=4, guidance_scale=5.0, latents=x, output_type="pt"
        ).images
    finally:
        twin.pipe.unload_lora_weights()
    assert (own.clamp(-1, 1) / 2 + 0.5 - there).abs().max() < PICTURE


def test_a_file_goes_from_kohya_to_diffusers_and_back_to_the_bit(twins, tmp_path):
    twin = twins("v2")
    tensors = lora_files.kohya(*pairs(twin.pipe))
    first = lora_files.save(tensors, tmp_path / "a.safetensors")
    there = write_lora(read_lora(first, twin.model), tmp_path / "b.safetensors", "diffusers")
    back = write_lora(read_lora(there, twin.model), tmp_path / "c.safetensors", "kohya")
    found = load_file(back)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_both_ways_of_naming_text_encoders_are_read(twins, tmp_path):
    twin = twins("v1")
    tensors = lora_files.peft({}, pairs(twin.pipe)[1])
    classic = {
        n.replace("text_encoder.", "text_encoder.text_model."): v for n, v in tensors.items()
    }
    for number, each in enumerate((tensors, classic)):
        path = lora_files.save(copy.copy(each), tmp_path / f"{number}.safetensors")
        assert_text_is_theirs(twin, path)


def assert_text_is_theirs(twin, path):
    with read_lora(path, twin.model).attach(twin.model):
        words, _ = ours(twin.model)
    assert relative_error(words, theirs(twin.pipe, path)[0]) < EPS
