"""Attributes that are set for a while leave no trace."""

from __future__ import annotations

import pytest

from ldm.wrapping import with_attribute


class Owner:
    shared = "the class's"

    def __init__(self):
        self.own = 1


@pytest.mark.parametrize("name", ["own", "shared", "absent"])
def test_an_attribute_set_for_a_block_is_as_it_was_afterwards(name):
    owner = Owner()
    before = dict(vars(owner))
    with pytest.raises(RuntimeError), with_attribute(owner, name, 5):
        assert getattr(owner, name) == 5
        raise RuntimeError
    assert vars(owner) == before and Owner.shared == "the class's"
