"""Networks are read as their architectures compute them, and files of strangers claim nothing."""

from __future__ import annotations

import os
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from upscaler_files import NETWORKS, as_real_esrgan, nearest_network, random_network

from ldm.errors import UserError
from ldm.upscalers import network, upscaler
from ldm.upscalers.upscaler import kept_upscaler, load_upscaler


def picture(height=24, width=32):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def alone(module, x):
    """Return what an architecture's own module makes of a picture, colour by colour if grey."""
    if "grey" in str(module.__dict__.get("about", "")):
        return torch.cat([module(c) for c in x.split(1, dim=1)], dim=1).clamp(0, 1)
    return module(x).clamp(0, 1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_file_computes_what_its_architectures_own_module_does(kind, tmp_path):
    module = random_network(kind)
    module.about = kind
    torch.save(module.state_dict(), tmp_path / "net.pth")
    read = load_upscaler(tmp_path / "net.pth")
    x = picture()
    assert read.architecture.split()[-1] in kind or read.architecture in kind
    assert torch.equal(read(x), alone(module, x))
    assert read(x).shape == (1, 3, 24 * read.scale, 32 * read.scale)
    assert float(read(x).min()) >= 0 and float(read(x).max()) <= 1


@pytest.mark.parametrize("wrap", ["params", "params_ema", "state_dict", "both", "safetensors"])
def test_files_are_read_however_their_trainers_wrap_them(wrap, tmp_path):
    module = random_network("ESRGAN")
    state, path = as_real_esrgan(module.state_dict()), tmp_path / "net.pth"
    if wrap == "safetensors":
        path = tmp_path / "net.safetensors"
        save_file(state, path)
    elif wrap == "both":
        last = as_real_esrgan(random_network("ESRGAN", seed=1).state_dict())
        torch.save({"params": last, "params_ema": state}, path)
    else:
        torch.save({wrap: state}, path)
    assert torch.equal(load_upscaler(path)(picture()), alone(module, picture()))


def test_reading_draws_no_random_numbers(tmp_path):
    torch.save(random_network("SwinIR").state_dict(), tmp_path / "net.pth")
    before = torch.random.get_rng_state()
    load_upscaler(tmp_path / "net.pth")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_of_half_the_precision_compute_in_float32(tmp_path):
    halves = {name: value.half() for name, value in random_network("Compact").state_dict().items()}
    torch.save(halves, tmp_path / "net.pth")
    assert load_upscaler(tmp_path / "net.pth")(picture()).dtype == torch.float32


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("was run",)


def write_pickle(path):
    state = dict(random_network("Compact").state_dict(), extra=_Runs())
    torch.save(state, path, pickle_module=pickle)


def write_numbers(path):
    state = random_network("Compact").state_dict()
    torch.save({**state, "body.1000000000.weight": state["body.0.weight"]}, path)


def write_table(path):
    state = random_network("DAT").state_dict()
    name = next(name for name in state if name.endswith("rpe_biases"))
    torch.save({**state, name: torch.full_like(state[name], 2**30)}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (write_pickle, "refused, nothing was run"),
        (write_numbers, "a network of impossible size"),
        (write_table, "a network of impossible size"),
        (lambda path: torch.save({"a.weight": torch.zeros(3, 3)}, path), "of no architecture"),
        (lambda path: path.write_bytes(b"<html>"), "is a web page"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: None, "does not exist"),
    ],
)
def test_a_file_that_is_no_network_is_one_line(write, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "net.pth")
    with pytest.raises(UserError, match=words):
        load_upscaler(tmp_path / "net.pth")
    assert not (tmp_path / "was run").exists()


def test_a_network_with_weights_missing_is_said_to_be_incomplete(tmp_path):
    state = random_network("SwinIR").state_dict()
    del state["conv_after_body.weight"], state["norm.bias"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match="does not fit|of no architecture"):
        load_upscaler(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("purpose", "channels", "words"),
    [("FaceSR", (3, 3), "restore_faces"), ("SR", (4, 3), "takes pictures of 4 channels")],
)
def test_networks_for_something_else_are_refused_by_what_they_do(
    purpose, channels, words, monkeypatch
):
    found = SimpleNamespace(
        purpose=purpose,
        architecture=SimpleNamespace(name="Odd"),
        input_channels=channels[0],
        output_channels=channels[1],
    )
    monkeypatch.setattr(upscaler, "read_network", lambda path: found)
    with pytest.raises(UserError, match=words):
        load_upscaler("net.pth")


def test_without_the_package_a_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r"pip install -e \"\.\[upscale\]\""):
        network.read_network("net.pth")


def test_a_network_stays_loaded_until_its_file_changes(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(nearest_network(2).state_dict(), path)
    first = kept_upscaler(path)
    assert kept_upscaler(path) is first
    torch.save(nearest_network(3).state_dict(), path)
    assert kept_upscaler(path).scale == 3
