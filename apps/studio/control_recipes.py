"""The controls that a picture records as values of a tab's fields; what cannot be taken is said.

The pictures that they looked at are in no recipe, so they are named instead. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.studio.controls import KINDS, MODES, OF_MODEL, Network
from apps.studio.words import say
from ldm.pipelines.adapter_files import full_hash
from ldm.pipelines.recorded_controls import RecordedControl
from ldm.settings.adapters import GLIGEN, PLAIN, REFERENCE, THROUGH_ENCODER

_UPLOADED = re.compile(r"[0-9a-f]{64}\.\w+")  # such a name says nothing to anybody


@dataclass
class Recalled:
    """What becomes of a picture's controls.

    Attributes:
        values: Values of fields, by the names of ``Controls.fields``.
        sentences: What was not taken over, or is not the same here.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def recalled(
    recorded: Sequence[RecordedControl],
    there: Mapping[str, Mapping[str, Network]],
    kinds: Collection[str],
    language: str,
) -> Recalled:
    """Return what of a picture's controls fits into a tab's fields.

    Args:
        recorded: Its controls.
        there: What can be chosen, by the keys of ``KINDS`` and by name.
        kinds: What can be taken from a picture here.
        language: The visitor's.
    """
    found = Recalled()
    for each in recorded:
        key = KINDS[1] if each.kind in THROUGH_ENCODER else KINDS[0]
        called = f"{each.kind}={each.file}" if each.file else each.kind
        name = OF_MODEL if each.kind == REFERENCE else each.file
        network = next((n for n in there[key] if n.lower() == name.lower()), None)
        if each.kind == GLIGEN:
            found.sentences.append(say(language, "recipe_boxes", called=called))
        elif network is None:
            found.sentences.append(say(language, "recipe_no_network", called=called))
        elif key in found.values:
            found.sentences.append(say(language, "recipe_further", called=called))
        else:
            _take(each, key, there[key][network], kinds, found, language)
    return found


def _take(
    each: RecordedControl,
    key: str,
    network: Network,
    kinds: Collection[str],
    found: Recalled,
    language: str,
) -> None:
    """Fill the fields with one control."""
    found.values |= {key: network.name, f"{key}_scale": each.scale}
    found.values |= {f"{key}_start": each.start, f"{key}_end": each.end}
    if each.digits and full_hash(network.path) != each.digits:
        found.sentences.append(say(language, "recipe_other_file", name=network.name))
    if key == KINDS[0]:
        found.values["control_mode"] = each.mode if each.mode in MODES else MODES[-1]
        if each.kind != REFERENCE:
            made = each.kind in kinds
            found.values["control_kind"] = each.kind if made else PLAIN
            if not made and each.kind != "t2i":  # the same by another name
                found.sentences.append(say(language, "recipe_no_hint", kind=each.kind))
    named = "" if not each.image or _UPLOADED.fullmatch(each.image) else f" ({each.image})"
    found.sentences.append(say(language, "recipe_no_picture", name=network.name, named=named))
