"""The names that other people's code imports are where it looks for them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import torch

from ldm.config import load_config
from ldm.util import instantiate_from_config

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = {
    "ldm.util": """instantiate_from_config get_obj_from_str default exists ismap isimage mean_flat
        count_params log_txt_as_img parallel_data_prefetch""",
    "ldm.models.diffusion.ddpm": "DDPM LatentDiffusion LatentInpaintDiffusion DiffusionWrapper",
    "ldm.models.diffusion.ddim": "DDIMSampler",
    "ldm.models.diffusion.plms": "PLMSSampler",
    "ldm.models.diffusion.dpm_solver": "DPMSolverSampler",
    "ldm.models.diffusion.classifier": "NoisyLatentImageClassifier",
    "ldm.models.autoencoder": "AutoencoderKL VQModel VQModelInterface IdentityFirstStage",
    "ldm.modules.diffusionmodules.openaimodel": """UNetModel EncoderUNetModel
        TimestepEmbedSequential TimestepBlock ResBlock Downsample Upsample AttentionBlock""",
    "ldm.modules.diffusionmodules.model": "Encoder Decoder ResnetBlock AttnBlock",
    "ldm.modules.diffusionmodules.util": """conv_nd linear avg_pool_nd zero_module normalization
        checkpoint timestep_embedding extract_into_tensor make_beta_schedule make_ddim_timesteps
        make_ddim_sampling_parameters noise_like HybridConditioner""",
    "ldm.modules.attention": """SpatialTransformer BasicTransformerBlock CrossAttention FeedForward
        GEGLU""",
    "ldm.modules.encoders.modules": """FrozenCLIPEmbedder FrozenCLIPTextEmbedder
        FrozenClipImageEmbedder FrozenOpenCLIPEmbedder BERTEmbedder BERTTokenizer
        TransformerEmbedder ClassEmbedder SpatialRescaler""",
    "ldm.modules.x_transformer": "TransformerWrapper Encoder",
    "ldm.modules.distributions.distributions": "DiagonalGaussianDistribution normal_kl",
    "ldm.modules.image_degradation": "degradation_fn_bsr degradation_fn_bsr_light",
    "ldm.modules.image_degradation.bsrgan": "degradation_bsrgan_variant",
    "ldm.modules.image_degradation.bsrgan_light": "degradation_bsrgan_variant",
    "ldm.data.base": "Txt2ImgIterableBaseDataset",
    "ldm.data.captions": "CaptionedFolder CaptionedJSONL",
    "ldm.data.shards": "CaptionedShards",
    "ldm.data.precomputed": "PrecomputedLatents",
    "ldm.data.hub": "CaptionedDataset",
    "ldm.data.folder": "ImageFolder ClassFolder",
    "ldm.data.imagenet": "ImageNetTrain ImageNetValidation ImageNetSRTrain ImageNetSRValidation",
    "ldm.data.lsun": """LSUNChurchesTrain LSUNChurchesValidation LSUNBedroomsTrain
        LSUNBedroomsValidation LSUNCatsTrain LSUNCatsValidation""",
    "ldm.modules.ema": "LitEma",
    "ldm.modules.losses": "LPIPSWithDiscriminator VQLPIPSWithDiscriminator",
    "ldm.modules.losses.contperceptual": "LPIPSWithDiscriminator DummyLoss",
    "ldm.modules.losses.vqperceptual": "VQLPIPSWithDiscriminator",
    "ldm.lr_scheduler": "LambdaLinearScheduler LambdaWarmUpCosineScheduler",
    "main": "DataModuleFromConfig ImageLogger",
    "optimizedSD.ddpm": "UNet FirstStage CondStage",
    "optimizedSD.openaimodelSplit": "UNetModelEncode UNetModelDecode",
}
HUB_ATTRIBUTES = """apply_model get_learned_conditioning encode_first_stage
    get_first_stage_encoding decode_first_stage alphas_cumprod num_timesteps device ema_scope
    first_stage_model cond_stage_model scale_factor q_sample parameterization"""
UNET_ATTRIBUTES = "time_embed input_blocks middle_block output_blocks out model_channels dtype"

NAMES = [(module, name) for module, names in PUBLIC.items() for name in names.split()]
SAMPLERS = [(module, name) for module, name in NAMES if name.endswith("Sampler")]


@pytest.fixture(scope="module")
def hub():
    """The v1 model without its numbers: the structure is what is asked for here."""
    config = load_config(ROOT / "configs" / "stable-diffusion" / "v1-inference.yaml")
    with torch.device("meta"):
        return instantiate_from_config(config.model)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_name_is_where_others_import_it_from(module, name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", HUB_ATTRIBUTES.split())
def test_the_hub_keeps_its_attributes(hub, name):
    assert hasattr(hub, name)


@pytest.mark.parametrize("name", UNET_ATTRIBUTES.split())
def test_the_unet_keeps_its_attributes(hub, name):
    assert hasattr(hub.model.diffusion_model, name)


class ZeroModel:
    """The least that a sampler may ask of a model."""

    num_timesteps = 1000
    alphas_cumprod = torch.linspace(0.999, 0.005, 1000)
    parameterization = "eps"
    device = torch.device("cpu")

    def apply_model(self, x, t, cond):
        return torch.zeros_like(x)


def make(module: str, name: str):
    return getattr(importlib.import_module(module), name)(ZeroModel())


@pytest.mark.parametrize(("module", "name"), SAMPLERS)
def test_samplers_take_the_references_arguments(module, name):
    sampler = make(module, name)
    in_order = list(inspect.signature(sampler.sample).parameters)
    assert in_order[:4] == ["S", "batch_size", "shape", "conditioning"]
    samples, intermediates = sampler.sample(
        S=4,
        batch_size=1,
        shape=(4, 8, 8),
        conditioning=torch.zeros(1, 77, 8),
        callback=lambda i: None,
        img_callback=lambda x0, i: None,
        quantize_x0=False,
        eta=0.0,
        mask=None,
        x0=None,
        temperature=1.0,
        noise_dropout=0.0,
        score_corrector=None,
        corrector_kwargs={},
        verbose=False,
        x_T=torch.ones(1, 4, 8, 8),
        log_every_t=100,
        unconditional_guidance_scale=7.5,
        unconditional_conditioning=torch.zeros(1, 77, 8),
    )
    assert samples.shape == (1, 4, 8, 8)
    if name == "DPMSolverSampler":  # as in the reference
        assert intermediates is None
    else:
        assert {"x_inter", "pred_x0"} <= set(intermediates)
    sampler.make_schedule(ddim_num_steps=4, ddim_discretize="uniform", ddim_eta=0.0, verbose=False)
    z = sampler.stochastic_encode(torch.zeros(2, 4, 8, 8), torch.tensor([2, 2]))
    assert sampler.decode(z, None, 2).shape == z.shape


@pytest.mark.parametrize(("module", "name"), SAMPLERS)
def test_samplers_warn_of_a_misspelt_keyword(module, name, caplog):
    sampler = make(module, name)
    sampler.sample(4, 1, (4, 8, 8), uncondtional_guidance_scale=7.5, verbose=False)
    (warning,) = [r.getMessage() for r in caplog.records if "uncondtional" in r.getMessage()]
    assert "unconditional_guidance_scale" in warning
