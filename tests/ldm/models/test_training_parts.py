from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.models.training_parts import pictures_from


@pytest.mark.parametrize("shape", [(2, 8, 6), (2, 8, 6, 1), (2, 8, 6, 3)])
def test_pictures_come_with_their_channels_first(shape):
    x = torch.arange(2 * 8 * 6 * (shape[3] if len(shape) == 4 else 1)).reshape(shape)
    taken = pictures_from({"jpg": x}, "jpg")
    assert taken.shape == (2, taken.shape[1], 8, 6) and taken.dtype == torch.float32
    last = x if x.ndim == 4 else x[..., None]
    assert torch.equal(taken[1, :, 2, 3], last[1, 2, 3].float())


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"png": torch.zeros(1, 2, 2, 3), "txt": ["a"]}, "'jpg' of the data, which has png, txt"),
        ({}, "'jpg' of the data, which has"),
        ([torch.zeros(1, 2, 2, 3)], "which has no names"),
        ({"jpg": ["a.jpg", "b.jpg"]}, "which holds list; expected a tensor"),
        ({"jpg": "a.jpg"}, "which holds str; expected a tensor"),
    ],
)
def test_data_without_the_entry_is_told_with_what_it_has(batch, said):
    with pytest.raises(UserError, match=said):
        pictures_from(batch, "jpg")
