"""Pictures to look at in training: the reference's names, on every kind of hub."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from family_models import family_config
from tiny_model import CONFIG

from ldm.errors import UserError
from ldm.models.diffusion import preview
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.models.diffusion.preview import light_settings
from ldm.training.images import ImageLogger

KINDS = ("text", "class", "unconditional", "vq", "upscaling", "first", "map")
LATENT_ROWS = 4  # after step 0, 4, 8 and 9 of 10
ALL = {"inputs", "reconstruction", "diffusion_row", "samples", "progressive_row"} | {
    "samples_inpainting",
    "samples_outpainting",
    "mask",
}


def hub(kind: str, cls: type | None = None, **changes):
    torch.manual_seed(0)
    if kind == "text":
        params = copy.deepcopy(CONFIG["model"]["params"])
    elif kind in ("first", "map"):
        params = copy.deepcopy(family_config("upscaling")["model"]["params"])
        first = kind == "first"
        params["cond_stage_key"] = "masked_image" if first else "segmentation"
        params["unet_config"]["params"]["in_channels"] = 8 if first else 9
        if first:
            params["cond_stage_config"] = "__is_first_stage__"
    else:
        params = family_config(kind)["model"]["params"]
    params.update(timesteps=10, log_every_t=4, first_stage_key="image")
    model = (cls or (DDPM if kind == "pixels" else LatentDiffusion))(**{**params, **changes})
    for parameter in model.model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # a new UNet answers 0
    return model.eval()


def batch(n: int = 3, side: int = 16) -> dict:
    generator = torch.Generator().manual_seed(1)

    def pictures(side: int, channels: int = 3) -> torch.Tensor:
        return torch.rand(n, side, side, channels, generator=generator) * 2 - 1

    return {
        "image": pictures(side),
        "txt": [f"picture {i}" for i in range(n)],
        "class_label": torch.arange(n),
        "LR_image": pictures(8),
        "masked_image": pictures(16),
        "segmentation": pictures(8, 5),
    }


def shown(model, data=None, **options):
    torch.manual_seed(2)
    return model.log_images(data or batch(), **{"ddim_steps": 2, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_hub_shows_everything_by_default(kind):
    pictures = shown(hub(kind), N=2, n_row=1)
    conditioning = {
        "unconditional": set(),
        "vq": {"samples_x0_quantized"},
        "map": {"original_conditioning"},
    }
    assert set(pictures) == ALL | conditioning.get(kind, {"conditioning"})
    assert all(p.isfinite().all() for p in pictures.values())
    rows = {"diffusion_row": 1, "progressive_row": 2}
    for name, picture in pictures.items():
        if name in rows:
            assert picture.shape == (3, rows[name] * 18 + 2, LATENT_ROWS * 18 + 2)
        elif name == "mask":
            assert picture.shape == (2, 1, 8, 8)
        else:
            assert picture.shape[:2] == (2, 3)


def test_the_plain_hub_shows_its_own_kinds():
    model = hub("pixels")
    pictures = model.log_images(batch(side=8), N=2, n_row=2)
    assert list(pictures) == ["inputs", "diffusion_row", "samples", "denoise_row"]
    assert pictures["samples"].shape == pictures["inputs"].shape == (2, 3, 8, 8)
    assert pictures["diffusion_row"].shape == (3, 2 * 10 + 2, 4 * 10 + 2)
    assert pictures["denoise_row"].shape == (3, 2 * 10 + 2, 5 * 10 + 2)
    assert set(model.log_images(batch(side=8), 2, 2, False)) == {"inputs", "diffusion_row"}
    assert set(model.log_images(batch(side=8), sample=False, return_keys=["inputs"])) == {"inputs"}


@pytest.mark.parametrize(
    ("option", "absent"),
    [
        ({"sample": False}, {n for n in ALL if n.startswith("samples")} | {"mask"}),
        ({"inpaint": False}, {"samples_inpainting", "samples_outpainting", "mask"}),
        ({"plot_diffusion_rows": False}, {"diffusion_row"}),
        ({"plot_progressive_rows": False}, {"progressive_row"}),
    ],
)
def test_each_kind_can_be_left_out(option, absent):
    assert set(shown(hub("unconditional"), N=1, **option)) == ALL - absent


def test_returned_keys_are_chosen_unless_none_is_there():
    model = hub("unconditional")
    assert set(shown(model, return_keys=["samples", "inputs"])) == {"samples", "inputs"}
    assert set(shown(model, return_keys=["nothing"])) == ALL
    assert set(shown(model, return_keys=["nothing", "mask"])) == {"mask"}


def test_pictures_go_in_and_come_out_as_they_are():
    data, model = batch(), hub("text")
    pictures = shown(model, data, N=2)
    assert torch.equal(pictures["inputs"], data["image"][:2].movedim(-1, 1))
    torch.manual_seed(2)
    z = model.get_first_stage_encoding(model.encode_first_stage(pictures["inputs"]))
    assert torch.equal(pictures["reconstruction"], model.decode_first_stage(z))


def test_the_first_of_the_row_is_barely_noised_and_the_last_is_noise():
    row = shown(hub("text"), N=1, n_row=1)["diffusion_row"]
    clean = shown(hub("text"), N=1)["reconstruction"][0]
    states = [row[:, 2:18, 18 * k + 2 : 18 * k + 18] for k in range(4)]
    distances = [float((state - clean).abs().mean()) for state in states]
    assert distances == sorted(distances) and distances[0] < 0.3 * distances[-1]


def test_the_middle_is_painted_in_and_the_surroundings_out():
    class Mirror(LatentDiffusion):
        """What is drawn is what is kept."""

        def sample_log(self, cond, batch_size, ddim, ddim_steps, x0=None, mask=None, **_):
            return (torch.zeros(batch_size, 4, 8, 8) if mask is None else x0 * mask), []

        def decode_first_stage(self, z, **_):
            return z[:, :3]

    pictures = shown(hub("text", Mirror), N=2, plot_progressive_rows=False)
    kept, clean = pictures["mask"], pictures["reconstruction"]
    assert kept[0, 0, 0, 0] == 1 and (kept[:, :, 2:6, 2:6] == 0).all() and kept.mean() == 0.75
    assert torch.equal(pictures["samples_inpainting"], kept * clean)
    assert torch.equal(pictures["samples_outpainting"], (1 - kept) * clean)


def test_without_ddim_samples_take_all_steps():
    model, calls = hub("text"), []
    apply = model.apply_model
    model.apply_model = lambda *a, **k: calls.append(1) or apply(*a, **k)
    light = {"inpaint": False, "plot_progressive_rows": False, "plot_denoise_rows": True}
    pictures = shown(model, N=1, ddim_steps=None, **light)
    assert len(calls) == 10
    assert pictures["denoise_row"].shape == (3, 20, 5 * 18 + 2)
    assert shown(model, N=1, **light)["denoise_row"].shape == (3, 20, 3 * 18 + 2)


@pytest.mark.parametrize(
    ("kind", "label"),
    [("text", None), ("text", ""), ("text", ["nothing"]), ("class", None), ("class", 0)],
)
def test_guided_samples_are_shown_beside_the_others(kind, label):
    model = hub(kind)
    options = {"unconditional_guidance_scale": 3.0, "unconditional_guidance_label": label}
    pictures = shown(model, N=2, ddim_eta=0.0, inpaint=False, **options)
    assert set(pictures) >= {"samples", "samples_cfg_scale_3.00"}
    assert pictures["samples_cfg_scale_3.00"].shape == (2, 3, 16, 16)
    alone = shown(model, N=2, sample=False, **options)
    assert "samples_cfg_scale_3.00" in alone and "samples" not in alone


@pytest.mark.parametrize("kind", ["upscaling", "unconditional", "first", "map"])
def test_guidance_without_an_empty_form_is_refused(kind):
    with pytest.raises(UserError, match="no empty conditioning"):
        shown(hub(kind), N=1, unconditional_guidance_scale=2.0)


def test_the_averaged_weights_draw_unless_they_are_not_to():
    model = hub("text", use_ema=True)
    with torch.no_grad():
        model.model_ema.diffusion_modelout2bias.add_(1.0)
    light = {"N": 1, "inpaint": False, "ddim_eta": 0.0, "plot_diffusion_rows": False}
    averaged, own = (shown(model, use_ema_scope=use, **light) for use in (True, False))
    for name in ("samples", "progressive_row"):
        assert not torch.equal(averaged[name], own[name])
    assert torch.equal(averaged["inputs"], own["inputs"])


class Counted(LatentDiffusion):
    """Notes what of it is called."""

    def get_input(self, *args, **kwargs):
        self.calls = {**getattr(self, "calls", {}), "get_input": (args[1:], kwargs)}
        return super().get_input(*args, **kwargs)

    def sample_log(self, **kwargs):
        self.calls["sample_log"] = set(kwargs)
        return super().sample_log(**kwargs)

    def progressive_denoising(self, *args, **kwargs):
        self.calls["progressive_denoising"] = kwargs
        return super().progressive_denoising(*args, **kwargs)

    def decode_first_stage(self, z, *args, **kwargs):
        return super().decode_first_stage(z, *args, **kwargs) * 0 + 0.25


def test_previews_go_through_the_methods_that_forks_override():
    model = hub("text", Counted)
    pictures = shown(model, N=2)
    asked = ("return_first_stage_outputs", "force_c_encode", "return_original_cond")
    wanted = (("image",), {**dict.fromkeys(asked, True), "bs": 2})
    assert model.calls["get_input"] == wanted
    assert model.calls["progressive_denoising"] == {"shape": (4, 8, 8), "batch_size": 2}
    assert model.calls["sample_log"] >= {"cond", "batch_size", "ddim", "ddim_steps", "eta", "mask"}
    drawn = {"samples", "samples_inpainting", "samples_outpainting", "reconstruction"}
    assert all((pictures[name] == 0.25).all() for name in drawn)


def test_pictures_of_other_sides_than_the_model_s_are_shown_too():
    pictures = shown(hub("text"), batch(side=24), N=1)
    assert pictures["samples"].shape == pictures["samples_inpainting"].shape == (1, 3, 24, 24)
    assert pictures["progressive_row"].shape[1:] == (28, 4 * 26 + 2)
    whole = shown(hub("text"), batch(side=24), N=1, ddim_steps=None)
    assert whole["samples"].shape == (1, 3, 24, 24)


def test_conditioning_is_shown_as_text_picture_or_colours():
    pictures = {kind: shown(hub(kind), N=2, sample=False) for kind in ("text", "class", "map")}
    assert pictures["text"]["conditioning"].shape == (2, 3, 16, 16)
    assert not torch.equal(*pictures["class"]["conditioning"])
    named = hub("class").log_images({**batch(), "human_label": ["a", "a", "b"]}, sample=False)
    assert torch.equal(*named["conditioning"][:2]) and len(named["conditioning"]) == 3
    colours = pictures["map"]["original_conditioning"]
    assert (colours.min(), colours.max()) == (-1, 1)
    small = shown(hub("upscaling"), N=2, sample=False)["conditioning"]
    assert torch.equal(small, batch()["LR_image"][:2].movedim(-1, 1))


def test_maps_keep_their_colours():
    model, labels = hub("map"), torch.randn(2, 5, 4, 4)
    first = model.to_rgb(labels)
    torch.rand(3)
    assert torch.equal(first, model.to_rgb(labels)) and "colorize" not in model.state_dict()


def test_keywords_without_effect_are_named_once(caplog):
    model = hub("unconditional")
    for _ in range(2):
        shown(model, N=1, sample=False, plot_progresive_rows=False)
    assert caplog.text.count("did you mean 'plot_progressive_rows'?") == 1


def test_training_shows_what_takes_seconds():
    settings = light_settings(hub("text"), {"txt": ["a"]})
    assert settings["ddim_steps"] == 25 and settings["unconditional_guidance_scale"] == 3.0
    pictures = shown(hub("text"), N=1, **{**settings, "ddim_steps": 2})
    names = {"inputs", "reconstruction", "conditioning", "samples", "samples_cfg_scale_3.00"}
    assert set(pictures) == names
    # Without dropout the last class is a class like any other.
    guided = [hub("class", cond_dropout=share) for share in (0.0, 0.1)]
    guided += [hub(kind) for kind in ("text", "unconditional", "upscaling", "vq", "map")]
    asks = ["unconditional_guidance_scale" in light_settings(model, batch()) for model in guided]
    assert asks == [False, True, True, False, False, False, False]


def test_a_fork_s_own_previews_get_its_own_defaults():
    class Fork(LatentDiffusion):
        def log_images(self, batch, N=4, sample=False, **kwargs):
            return {}

    assert light_settings(hub("text", Fork), {}) == {}
    assert light_settings(hub("pixels"), {}) == {}


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_the_pictures_in_order_with_a_border(count, channels):
    pictures = torch.rand(count, channels, 4, 6)
    grid = preview.rows_of_states(pictures[:, None])
    if count == 1:
        assert torch.equal(grid, pictures[0].expand(3, -1, -1))
        return
    assert grid.shape == (3, 8, count * 8 + 2)
    for k, picture in enumerate(pictures):
        assert torch.equal(grid[:, 2:6, 8 * k + 2 : 8 * k + 8], picture.expand(3, -1, -1))
    grid[:, 2:6] = 0
    assert not grid[:, :2].any() and not grid[:, 6:].any()


def test_each_sample_has_a_line_with_its_states_from_left_to_right():
    states = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 4)
    for given in (states, list(states)):
        grid = LatentDiffusion._get_rows_from_list(None, given)
        assert grid.shape == (3, 3 * 6 + 2, 2 * 6 + 2)
        assert grid[0, 3::6, 3::6].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("entry", "asks"),
    [
        (["a", "b"], True),
        (("a", "b"), True),
        (torch.zeros(2, 3, 8, 8), False),
        ([torch.zeros(3, 8, 8)] * 2, False),
        ({"c": ["a", "b"]}, False),
        (None, False),
    ],
)
def test_guidance_is_asked_for_only_where_a_batch_has_texts_or_classes(entry, asks):
    """A conditioner of pictures has no use for the empty text."""
    settings = light_settings(hub("text"), {} if entry is None else {"txt": entry})
    assert ("unconditional_guidance_scale" in settings) == asks


def test_texts_that_were_encoded_before_are_guided_too():
    encoded = {"txt_embedding": torch.zeros(2, 77, 32)}
    assert "unconditional_guidance_scale" in light_settings(hub("text"), encoded)


def test_an_empty_conditioning_that_takes_the_number_alone_is_asked_for_it():
    class Control(LatentDiffusion):
        def get_unconditional_conditioning(self, N):  # noqa: N803 - ControlNet's name
            return self.get_learned_conditioning([""] * N)

    options = {"sample": False, "unconditional_guidance_scale": 2.0}
    pictures = shown(hub("text", Control), N=2, **options)
    assert torch.equal(
        pictures["samples_cfg_scale_2.00"],
        shown(hub("text"), N=2, **options)["samples_cfg_scale_2.00"],
    )


def test_the_split_is_no_unknown_keyword(caplog):
    shown(hub("unconditional"), N=1, sample=False, split="train")
    assert "log_images does not know" not in caplog.text


@pytest.mark.parametrize("takes", ["split", "**kwargs", "neither"])
def test_the_image_logger_tells_the_split_to_whoever_takes_it(takes, tmp_path):
    seen = []

    class Named(torch.nn.Module):
        device = torch.device("cpu")

        def log_images(self, batch, N, split="none"):  # noqa: N803 - the reference's name
            seen.append(split)
            return {}

    class Any(Named):
        def log_images(self, batch, N, **kwargs):  # noqa: N803 - the reference's name
            return super().log_images(batch, N, **kwargs)

    class Neither(Named):
        def log_images(self, batch, N):  # noqa: N803 - the reference's name
            return super().log_images(batch, N)

    model = {"split": Named, "**kwargs": Any, "neither": Neither}[takes]()
    trainer = SimpleNamespace(
        is_global_zero=True, strategy=None, callbacks=[], global_step=1, current_epoch=0,
        default_root_dir=tmp_path,
    )  # fmt: skip
    for split in ("train", "val"):
        ImageLogger(batch_frequency=1, max_images=1).draw(trainer, model, {}, 0, split)
    assert seen == (["none", "none"] if takes == "neither" else ["train", "val"])
