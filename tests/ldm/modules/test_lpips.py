"""LPIPS from weights on this machine, and what is said when there are none."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from ldm.errors import UserError
from ldm.modules.losses import lpips
from ldm.modules.losses.lpips import LPIPS, VARIABLE, WIDTHS, VGGFeatures


@pytest.fixture(scope="module")
def parts():
    """Random weights of the right shapes: VGG-16's by torchvision's names, and the heads."""
    torch.manual_seed(0)
    vgg = {}
    for piece in VGGFeatures().children():
        for number, layer in piece.named_children():
            for name, value in layer.named_parameters():
                vgg[f"features.{number}.{name}"] = value.detach()
    heads = {f"lin{n}.model.1.weight": torch.rand(1, w, 1, 1) for n, w in enumerate(WIDTHS)}
    return vgg, heads


@pytest.fixture(scope="module")
def path(parts, tmp_path_factory):
    vgg, heads = parts
    file = tmp_path_factory.mktemp("weights") / "vgg.safetensors"
    save_file({**vgg, **heads, "classifier.0.weight": torch.zeros(1)}, file)
    return file


@pytest.fixture(scope="module")
def metric(path):
    return LPIPS(path)


@pytest.fixture
def pictures():
    return torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_equal_pictures_have_no_distance_and_others_one_each(metric, pictures):
    x, y = pictures
    distance = metric(x, y)
    assert distance.shape == (2, 1, 1, 1) and (distance > 0).all()
    assert not metric(x, x).any()
    torch.testing.assert_close(distance, metric(y, x))
    torch.testing.assert_close(metric(x[1:], y[1:]), distance[1:])


def test_features_in_half_precision_are_compared_in_float32(metric, pictures):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = metric(*pictures)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, metric(*pictures), rtol=0.05, atol=0)


def test_gradients_reach_the_pictures_and_no_weight(metric, pictures):
    x = pictures[0].requires_grad_(True)
    metric(x, pictures[1]).sum().backward()
    assert x.grad.abs().sum() > 0 and torch.isfinite(x.grad).all()
    assert not any(parameter.requires_grad for parameter in metric.parameters())


def test_a_place_without_features_has_a_gradient_too(metric, pictures):
    dark = copy.deepcopy(metric)
    dark.net.slice5._modules["28"].bias.fill_(-1e6)
    x = pictures[0].requires_grad_(True)
    dark(x, pictures[1]).sum().backward()
    assert x.grad.abs().sum() > 0 and torch.isfinite(x.grad).all()


def test_it_is_what_taming_s_class_computes(parts, path, metric, pictures, monkeypatch):
    taming = pytest.importorskip("taming.modules.losses.lpips")
    vgg = pytest.importorskip("torchvision.models.vgg")
    network = SimpleNamespace(features=vgg.make_layers(vgg.cfgs["D"]))
    network.features.load_state_dict(
        {name.removeprefix("features."): value for name, value in parts[0].items()}
    )
    monkeypatch.setattr(taming, "models", SimpleNamespace(vgg16=lambda pretrained: network))
    monkeypatch.setattr(taming.LPIPS, "load_from_pretrained", lambda self: None)
    theirs = taming.LPIPS().eval()
    theirs.load_state_dict(parts[1], strict=False)
    torch.testing.assert_close(metric(*pictures), theirs(*pictures), rtol=1e-5, atol=1e-7)


def test_a_first_stage_of_compvis_has_the_weights_too(parts, metric, pictures, tmp_path):
    vgg, heads = parts
    slices = {
        f"features.{n}": f"net.{name}.{n}"
        for name, piece in metric.net.named_children()
        for n, _ in piece.named_children()
    }
    names = {key: f"{slices[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in vgg}
    tensors = {names[key]: value for key, value in vgg.items()} | heads
    state = {f"loss.perceptual_loss.{key}": value for key, value in tensors.items()}
    state |= {"loss.perceptual_loss.scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    torch.testing.assert_close(LPIPS(tmp_path / "model.ckpt")(*pictures), metric(*pictures))


def test_the_heads_come_from_an_installed_package_if_the_file_has_none(parts, tmp_path, pictures):
    pytest.importorskip("torchmetrics")
    save_file(parts[0], tmp_path / "vgg.safetensors")
    distance = LPIPS(tmp_path / "vgg.safetensors")(*pictures)
    assert (distance > 0).all()


def test_missing_heads_are_one_line(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(lpips, "BUNDLED_HEADS", (("no_such_package", "vgg.pth"),))
    save_file(parts[0], tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match="heads .* pip install lpips"):
        LPIPS(tmp_path / "vgg.safetensors")


def test_the_environment_can_name_the_file(path, metric, pictures, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(path))
    assert torch.equal(LPIPS()(*pictures), metric(*pictures))


@pytest.mark.parametrize("given", [None, "no/such/vgg.pth"])
def test_no_weights_are_one_clear_line(given, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="expected a file of VGG-16's .* or set .*_weight=0") as e:
        LPIPS(given)
    assert "\n" not in str(e.value)
    assert (given or "no weights") in str(e.value)


def test_another_network_s_file_is_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(UserError, match="alexnet.safetensors: .* LPIPS's 31 weights"):
        LPIPS(tmp_path / "alexnet.safetensors")


def test_pictures_without_three_channels_are_refused(metric):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        metric(torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16))
