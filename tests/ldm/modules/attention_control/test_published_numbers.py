"""The numbers of prompt-to-prompt as published, recomputed in a plain way on a narrow UNet."""

from __future__ import annotations

import pytest
import torch
from edited_walks import LENGTH, drawn, encoded, hub, largest, read, start
from published_edit import Blend, Published

from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.local_blend import LocalBlend
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.reweight import Reweight

CAT, DOG, SAMOYED = "a cat on a mat", "a dog on a mat", "a samoyed on a mat"
FLUFFY = "a fluffy cat on a red mat"
IDENTITY, OLD, ONES = torch.eye(LENGTH), torch.zeros(LENGTH), torch.ones(LENGTH)


def swapped_for_two_tokens():
    """Write by hand the mapper of "cat" (token 2) to "samo|yed" (tokens 2 and 3).

    Everything behind moves by one, and two tokens of the padding meet.
    """
    mapper = torch.zeros(LENGTH, LENGTH)
    mapper[0, 0] = mapper[1, 1] = 1
    mapper[2, 2] = mapper[2, 3] = 0.5
    for position in range(3, 7):  # on a mat END
        mapper[position, position + 1] = 1
    for position in range(7, LENGTH):
        mapper[position, max(position, 8)] = 1
    return mapper


def with_fluffy_and_red():
    """Write by hand where the tokens of FLUFFY stand in CAT, and which are new."""
    origins = [0, 1, None, 2, 3, 4, None, 5, 6, *range(9, LENGTH)]
    mapper, new = torch.zeros(LENGTH, LENGTH), torch.zeros(LENGTH)
    for position, origin in enumerate(origins):
        if origin is None:
            new[position] = 1
        else:
            mapper[origin, position] = 1
    return mapper, new


def published(mappers, new, *, steps, windows=(0.0, 0.8), factors=None, self_steps=(0, 0), **more):
    alphas = torch.zeros(steps + 1, len(mappers), LENGTH)
    first, behind = (int(share * (steps + 1)) for share in windows)
    alphas[first:behind] = 1
    factors = [ONES] * len(mappers) if factors is None else factors
    return Published(mappers, new, alphas, factors, self_steps, **more)


def compare(prompts, controller, plain, *, steps=5, pictures=1, side=(16, 16), limit=1e-4):
    """Draw both ways, check that the pictures agree, and return them."""
    model = hub()
    cond, uncond = torch.cat([encoded(text) for text in prompts]), encoded("")
    unet, x = model.model.diffusion_model, start(pictures, side)
    expected = plain.draw(unet, x, cond, uncond, steps=steps, scale=3.0)
    assert largest(expected[1:] - expected[:1]) > 1e-2
    for columns in (False, True):
        options = {"steps": steps, "pictures": pictures, "side": side, "columns": columns}
        found = drawn(model, prompts, controller, **options)
        assert largest(found - expected) < limit
    return expected


def test_a_plain_run_edits_and_weighs_nothing():
    never = published([IDENTITY], [OLD], steps=8, windows=(0.0, 0.0))
    compare([CAT, DOG], None, never, steps=8)


def test_a_swap_of_words_has_the_published_numbers():
    plain = published([IDENTITY], [OLD], steps=8)
    edit = Replace(read(CAT), [read(DOG)], self_steps=0.0)
    compare([CAT, DOG], edit, plain, steps=8)


def test_self_attention_is_replaced_in_the_published_window_and_sizes():
    plain = published([IDENTITY], [OLD], steps=5, self_steps=(1, 4))
    edit = Replace(read(CAT), [read(DOG)], self_steps=(0.2, 0.8))
    compare([CAT, DOG], edit, plain)


def test_a_word_of_more_tokens_gets_its_share_in_each():
    plain = published([swapped_for_two_tokens()], [OLD], steps=5, self_steps=(0, 2))
    compare([CAT, SAMOYED], Replace(read(CAT), [read(SAMOYED)]), plain)


def test_a_refinement_has_the_published_numbers():
    mapper, new = with_fluffy_and_red()
    plain = published([mapper], [new], steps=5, self_steps=(0, 2))
    compare([CAT, FLUFFY], Refine(read(CAT), [read(FLUFFY)]), plain)


def test_several_targets_pictures_weights_and_windows_of_words_have_the_published_numbers():
    mapper, new = with_fluffy_and_red()
    factors = [ONES.clone(), ONES.clone()]
    factors[0][5], factors[1][7] = -2.0, -2.0  # mat
    factors[1][2] = 3.0  # fluffy
    plain = published(
        [IDENTITY, mapper], [OLD, new], steps=5, windows=(0.2, 0.7), factors=factors,
        self_steps=(0, 2),
    )  # fmt: skip
    plain.alphas[:, 0, 5] = plain.alphas[:, 1, 7] = 0  # mat: int(.4 * 6) rows
    plain.alphas[:2, 0, 5] = plain.alphas[:2, 1, 7] = 1
    source, targets = read(CAT), [read(DOG), read(FLUFFY)]
    windows = {"cross_steps": {"default_": (0.2, 0.7), "mat": 0.4}, "pictures": 2}
    weights = {"mat": -2, "fluffy": 3}
    edit = Reweight(source, targets, weights, prior=Auto(source, targets), **windows)
    compare([CAT, DOG, FLUFFY], edit, plain, pictures=2)


@pytest.mark.parametrize("subtract", [False, True])
def test_a_blend_has_the_published_numbers(subtract):
    mapper, new = with_fluffy_and_red()
    words, tokens = [["cat"], ["fluffy", "cat"]], [[2], [2, 3]]
    less = {"subtract": [["mat"], ["mat"]]} if subtract else {}
    blend = Blend(tokens, [[5], [7]] if subtract else (), threshold=0.6)
    plain = published([mapper], [new], steps=5, blend=blend, self_steps=(0, 2))
    prompts = [read(CAT), read(FLUFFY)]
    common = {"threshold": 0.6, "subtract_threshold": 0.6, "pictures": 2}
    local = LocalBlend(prompts, words, **common, **less)
    edit = Chain(Refine(prompts[0], prompts[1:], pictures=2), local)
    compare([CAT, FLUFFY], edit, plain, pictures=2, side=(16, 24))
    assert len(plain.masks) == 4  # int(.2 * 5) steps are not blended
    assert all(0.05 < float(mask.float().mean()) < 0.95 for mask in plain.masks)
