"""The Inception network is read safely from a file and fed what it expects."""

from __future__ import annotations

import io

import pytest
import torch
from safetensors.torch import save_file

from ldm.errors import UserError
from ldm.evaluation.inception import SIDE, Inception

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    """torch-fidelity's network with random weights."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unfilled(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Keep what the network was made with."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Unfilled("inception", ["2048"], nothing).eval()


def test_features_are_those_of_the_network_in_the_file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    extractor = Inception(tmp_path / "weights.safetensors", CPU)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (1, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    features = extractor(pictures)
    assert features.shape == (1, 2048)
    torch.testing.assert_close(features, network(pictures)[0])


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    pytest.importorskip("torch_fidelity")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"fc.weight": torch.zeros(1), "extra": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UserError):
        Inception(tmp_path / "weights.pth", CPU)
    assert not (tmp_path / "pwned").exists()
