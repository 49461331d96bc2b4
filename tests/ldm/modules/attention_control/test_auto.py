"""Equally many words are swapped, other prompts are refined, each target by itself."""

from __future__ import annotations

import torch
from edited_walks import LENGTH, drawn, hub, read

from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace

CAT, DOG, FLUFFY = (read(text) for text in ("a cat sat", "a dog sat", "a fluffy cat sat"))
JAPANESE = [read(text) for text in ("赤い猫の写真", "青い犬の写真", "赤い猫の大きな写真")]


def test_each_target_gets_the_edit_that_suits_it():
    base, own = torch.rand(2, 3, 16, LENGTH)
    for source, swapped, refined in ((CAT, DOG, FLUFFY), JAPANESE):
        edit = Auto(source, [swapped, refined])
        assert [type(each) for each in edit.chosen] == [Replace, Refine]
        replaced = Replace(source, [swapped]).edited(base, own, 0)
        assert torch.equal(edit.edited(base, own, 0), replaced)
        assert torch.equal(
            edit.edited(base, own, 1), Refine(source, [refined]).edited(base, own, 0)
        )
        assert not torch.equal(replaced, Refine(source, [swapped]).edited(base, own, 0))


def test_its_windows_are_those_that_it_was_given():
    options = {"side": (8, 8), "steps": 2}
    windows = {"cross_steps": 0.5, "self_steps": (0.5, 1.0)}
    auto = drawn(hub("v1"), [CAT.text, DOG.text], Auto(CAT, [DOG], **windows), **options)
    plain = drawn(hub("v1"), [CAT.text, DOG.text], Replace(CAT, [DOG], **windows), **options)
    usual = drawn(hub("v1"), [CAT.text, DOG.text], Replace(CAT, [DOG]), **options)
    assert torch.equal(auto, plain) and not torch.equal(auto, usual)
