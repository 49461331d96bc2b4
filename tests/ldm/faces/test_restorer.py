from __future__ import annotations

import numpy as np
import pytest
import torch
from face_files import restorer_of, write_restoreformer
from upscaler_files import NETWORKS

from ldm.errors import UserError
from ldm.faces.restorer import load_restorer

GREY = np.full((512, 512, 3), 100, np.uint8)


def test_a_restoreformer_redraws_as_its_own_module_does(tmp_path):
    network = write_restoreformer(tmp_path / "rf.pth")
    restorer = load_restorer(tmp_path / "rf.pth")
    assert (restorer.name, restorer.architecture) == ("rf", "RestoreFormer")
    face = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    with torch.no_grad():
        x = torch.from_numpy(face).permute(2, 0, 1)[None] / 127.5 - 1.0
        expected = (network(x)[0].clamp(-1, 1) + 1) * 127.5
    made = restorer(face)
    assert np.abs(made - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51
    assert made.std() > 1 and not np.array_equal(made, face)


def test_another_network_is_refused_by_name(tmp_path):
    torch.save(NETWORKS["Compact"]().state_dict(), tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"Compact, which does not redraw.*scripts/upscale.py"):
        load_restorer(tmp_path / "c.pth")


@pytest.mark.parametrize("architecture", ["GFPGAN", "RestoreFormer"])
def test_fidelity_mixes_the_given_face_in_where_the_network_has_none(architecture):
    restorer = restorer_of(lambda x, **_: (torch.ones_like(x), None), architecture)
    assert restorer.fidelity(None) == 0.0
    shares = {w: int(restorer(GREY, w)[0, 0, 0]) for w in (None, 0.0, 0.5, 1.0)}
    assert shares == {None: 255, 0.0: 255, 0.5: 178, 1.0: 100}


def test_codeformer_is_given_its_own_fidelity():
    weights = []

    def network(x, weight):
        weights.append(weight)
        return x, None

    restorer = restorer_of(network, "CodeFormer")
    for asked in (None, 0.0, 0.9):
        assert np.array_equal(restorer(GREY, asked), GREY)
    assert weights == [0.5, 0.0, 0.9]


def test_noise_that_a_network_draws_is_the_same_each_time_and_nobody_elses():
    restorer = restorer_of(lambda x, return_rgb: (torch.randn_like(x), None), "GFPGAN")  # noqa: ARG005
    torch.manual_seed(5)
    following = torch.rand(3)
    torch.manual_seed(5)
    first = restorer(GREY)
    assert torch.equal(torch.rand(3), following)
    assert np.array_equal(restorer(GREY), first)


def test_a_file_of_another_kind_is_told_what_redraws_faces(tmp_path):
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="expected GFPGAN, RestoreFormer or CodeFormer"):
        load_restorer(tmp_path / "x.pth")


def test_nan_and_faces_of_another_size_are_refused():
    broken = restorer_of(lambda x: (x * torch.nan, None))
    with pytest.raises(UserError, match="face 1 of 1 came out with NaN"):
        broken(GREY)
    with pytest.raises(ValueError, match="512, 512, 3"):
        broken(GREY[:100])
