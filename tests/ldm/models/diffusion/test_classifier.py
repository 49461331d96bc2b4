"""The classifier of noisy latents: what it reads, learns and leads samplers to."""

from __future__ import annotations

import pytest
import torch
from family_models import family_config, write_family_model
from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.models.diffusion.classifier import NoisyLatentImageClassifier, top_k_share
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.process.guidance import ClassifierFreeGuidance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_family_model(tmp_path_factory.mktemp("models") / "plain", "unconditional")


def make(folder, **options) -> NoisyLatentImageClassifier:
    torch.manual_seed(0)
    options = {"num_classes": 3, "pool": "adaptive", "label_key": "class_label", **options}
    return NoisyLatentImageClassifier(str(folder), **options)


def batch(labels=(0, 1, 2, 0)):
    """Return grey pictures whose brightness is their class."""
    labels = torch.tensor(labels)
    shades = (labels.float() - 1) * 0.9
    return {"image": shades[:, None, None, None].expand(-1, 16, 16, 3), "class_label": labels}


def test_it_has_the_references_keys(folder):
    keys = make(folder).state_dict().keys()
    tops = {key.split(".")[0] for key in keys}
    assert tops == {"model", "diffusion_model"}
    assert "model.time_embed.0.weight" in keys and "model.out.3.weight" in keys
    assert "diffusion_model.model.diffusion_model.time_embed.0.weight" in keys


def test_the_diffusion_models_weights_are_those_of_its_folder_and_frozen(folder):
    from safetensors.torch import load_file

    classifier = make(folder).train()
    own = classifier.diffusion_model.state_dict()
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(own[name], value), name
    assert not any(p.requires_grad for p in classifier.diffusion_model.parameters())
    assert not classifier.diffusion_model.training and classifier.model.training


@pytest.mark.parametrize("pool", ["adaptive", "spatial"])
def test_a_fixed_batch_is_learnt_to_the_last_row(folder, pool):
    classifier = make(folder, pool=pool).train()
    classifier.learning_rate = 5e-3
    optimizer = classifier.configure_optimizers()
    steps, losses = torch.tensor([0, 5, 10, 15]), []
    for _ in range(40):
        torch.manual_seed(1)
        loss, figures = classifier.shared_step(batch(), steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert figures["acc@1"] == 1.0


def test_a_conditional_unet_gives_a_classifier_without_conditioning(tmp_path):
    folder = write_family_model(tmp_path / "class", "class")
    classifier = make(folder, label_key=None)
    assert classifier.label_key == "class_label"
    assert classifier(torch.zeros(2, 4, 8, 8), torch.zeros(2).long()).shape == (2, 3)


def test_the_network_sees_latents_alone_also_of_a_model_with_concatenated_maps(tmp_path):
    classifier = make(write_family_model(tmp_path / "upscaling", "upscaling"))
    assert classifier(torch.zeros(2, 4, 8, 8), torch.zeros(2).long()).shape == (2, 3)


def test_a_plain_ddpm_is_classified_in_pixels(tmp_path):
    classifier = make(write_family_model(tmp_path / "pixels", "pixels"))
    loss = classifier.training_step(
        {"image": torch.zeros(2, 8, 8, 3), "class_label": torch.tensor([0, 1])}, 0
    )
    assert loss.isfinite()


def test_maps_of_classes_are_told_at_every_place_of_the_latent(folder):
    classifier = make(folder, label_key="segmentation")
    rows = torch.zeros(2, 16, 16, 3)
    rows[:, :8, :, 0], rows[:, 8:, :, 2] = 1.0, 1.0
    data = {"image": torch.zeros(2, 16, 16, 3), "segmentation": rows}
    targets = classifier.get_conditioning(data, (8, 8))
    assert targets.shape == (2, 8, 8)
    assert (targets[:, :4] == 0).all() and (targets[:, 4:] == 2).all()
    assert classifier(torch.zeros(2, 4, 8, 8), torch.zeros(2).long()).shape == (2, 3, 8, 8)
    loss = classifier.training_step(data, 0)
    assert loss.isfinite()
    assert set(classifier.validation_figures(data)) == {"val/loss", "val/acc@1", "val/acc@5"}
    shown = classifier.log_images(data, N=1)
    assert shown["labels"].shape == shown["inputs"].shape == (1, 3, 16, 16)


def test_its_guidance_raises_the_probability_of_the_class(folder):
    classifier = make(folder, num_classes=2).eval()
    labels = torch.tensor([0, 1])

    def told(scale):
        guider = classifier.guidance(labels, scale)
        x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        sampler = DDIMSampler(classifier.diffusion_model)
        z, _ = sampler.sample(5, 2, (4, 8, 8), guider=guider, x_T=x_T, verbose=False)
        with torch.no_grad():
            return classifier(z, torch.zeros(2).long()).log_softmax(1)[torch.arange(2), labels]

    # An untrained head ends in zeros and knows no classes; this one knows two directions.
    torch.manual_seed(4)
    torch.nn.init.normal_(classifier.model.out[3].weight, std=0.5)
    assert (told(20.0) > told(0.0)).all()


def test_its_guidance_takes_another_beneath(folder):
    guider = make(folder).guidance(torch.tensor([1]), 2.0, ClassifierFreeGuidance(3.0))
    assert guider.inner.scale == 3.0 and guider.scale == 2.0


def test_pictures_to_look_at_show_the_steps_and_what_is_told(folder):
    shown = make(folder, log_steps=4).log_images(batch(), N=2)
    assert {"inputs", "labels", "inputs@t75", "predictions@t75"} <= set(shown)
    assert {tuple(v.shape) for v in shown.values()} == {(2, 3, 16, 16)}


def test_a_share_of_the_k_likeliest():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert top_k_share(logits, torch.tensor([0, 1]), 1) == 0.5
    assert top_k_share(logits, torch.tensor([0, 1]), 2) == 1.0
    assert top_k_share(logits, torch.tensor([0, 2]), 5) == 1.0


def test_it_starts_from_a_classifiers_checkpoint(folder, tmp_path):
    first = make(folder)
    torch.nn.init.normal_(first.model.out[3].weight)
    torch.save({"state_dict": first.state_dict()}, tmp_path / "last.ckpt")
    again = make(folder, ckpt_path=str(tmp_path / "last.ckpt"))
    assert torch.equal(again.model.out[3].weight, first.model.out[3].weight)


def test_main_trains_it_and_a_loaded_checkpoint_is_the_same_classifier(folder, tmp_path):
    import main
    from ldm.checkpoint.folders import find_model_files
    from ldm.checkpoint.load import load_model

    dataset = {"target": "family_models.Shades"}
    config = {
        "model": {
            "base_learning_rate": 0.01,
            "target": "ldm.models.diffusion.classifier.NoisyLatentImageClassifier",
            "params": {
                "diffusion_path": str(folder),
                "num_classes": 3,
                "pool": "adaptive",
                "label_key": "class_label",
            },
        },
        "data": {
            "target": "main.DataModuleFromConfig",
            "params": {
                "batch_size": 3,
                "num_workers": 0,
                "train": dataset,
                "validation": dataset,
            },
        },
    }
    OmegaConf.save(OmegaConf.create(config), tmp_path / "base.yaml")
    trained = ["-b", str(tmp_path / "base.yaml"), "-t", "-n", "judge", "-l", str(tmp_path)]
    assert main.main([*trained, "--max_steps", "3", "--no-test"]) == 0
    (run,) = tmp_path.glob("*_judge")
    files = find_model_files(run)
    assert files.folder == run and list(run.glob("images/train/predictions*"))
    loaded, _ = load_model(files.load_config(), files.ckpt)
    saved = torch.load(files.ckpt, weights_only=True)["state_dict"]
    assert saved["model.out.3.weight"].any()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, saved[name]), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_key": "caption"}, "label_key 'caption'.*class_label or segmentation"),
        ({"label_key": None}, "label_key 'image'.*class_label or segmentation"),
        ({"pool": "mean"}, "pool 'mean'"),
        ({"diffusion_ckpt_path": "nowhere.ckpt"}, "nowhere.ckpt"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder, options, words):
    with pytest.raises(UserError, match=words) as caught:
        make(folder, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(UserError, match="no configuration is there"):
        make(tmp_path)
    OmegaConf.save(OmegaConf.create(family_config("unconditional")), tmp_path / "config.yaml")
    with pytest.raises(UserError, match="holds no checkpoint"):
        make(tmp_path)


def test_a_class_beyond_the_last_is_told(folder):
    with pytest.raises(UserError, match="class 3 is in the data; expected 0 to 2"):
        make(folder).shared_step(batch((0, 1, 2, 3)))


@pytest.mark.parametrize(("labels", "named"), [([1, -1], -1), ([0, 9], 9), ([-2, 1], -2)])
def test_a_class_outside_the_range_is_named(folder, labels, named):
    classifier = make(folder, num_classes=2)
    with pytest.raises(UserError, match=f"class {named} is in the data; expected 0 to 1"):
        classifier.get_conditioning({"class_label": torch.tensor(labels)}, (8, 8))
