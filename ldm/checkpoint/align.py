"""Find a model's weights in a file that has them under another prefix or in other axes. No torch.

A file may put a prefix before all names (``state_dict.``, a second ``model.``), or hold one part
under a prefix of its own (``vae.``, ``text_model.``). A part is taken from there only if nearly all
of its names are found under one prefix; shapes must then agree up to axes of length 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ldm.checkpoint.names import OTHER, by_component, by_modern_name, unwrapped
from ldm.errors import UserError

Shape = tuple[int, ...]
PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "control_model.")
ANCHORS = 3  # wanted names whose places in the file suggest a prefix
ENOUGH = 0.9  # share of a part's names to find; what it lacks is then reported


@dataclass
class Alignment:
    """Where a file has the model's weights.

    Attributes:
        names: A name, as the model spells it, to the file's name for it.
        found_under: Component to the prefix of its names in the file, where it is another.
        outer: The prefix before all names of the file, if there is one.
    """

    names: dict[str, str]
    found_under: dict[str, str] = field(default_factory=dict)
    outer: str = ""

    def own_name(self, name: str) -> str:
        """Return a name of the file without what was put before all its names."""
        return unwrapped(name).removeprefix(self.outer)


@dataclass(frozen=True)
class _Place:
    """Names below the prefix ``own`` of the model, at the prefix ``theirs`` of the file."""

    own: str
    theirs: str

    @property
    def is_anothers(self) -> bool:
        """Whether the file's prefix says that it is another part than the model's says."""
        ends = [part for part in PARTS if self.theirs.endswith(part)]
        return bool(self.own) and any(part not in self.own for part in ends)

    def of(self, name: str) -> str:
        """Return the file's name for one of the model's."""
        return self.theirs + name.removeprefix(self.own)


def align(source: str, wanted: Mapping[str, Shape], held: Mapping[str, Shape]) -> Alignment:
    """Find the file's names for a model's.

    Args:
        source: The file, for messages.
        wanted: The model's names and shapes.
        held: The file's.

    Raises:
        UserError: A part that is not under its own names is there several times.
    """
    named = by_modern_name(held)
    found = Alignment(named | {name: name for name in held})
    for part, group in by_component(wanted).items():
        absent = [name for name in group if name not in found.names]
        if len(absent) <= (1 - ENOUGH) * len(group):
            continue
        suggested = _suggested(group, absent, named)
        places = _best(suggested, named, {name: wanted[name] for name in group}, held)
        if len(places) > 1:
            raise _several(source, part, places)
        for place in places:
            _take(found, part, place, group)
    for name, own in list(found.names.items()):
        if found.outer and name.startswith(found.outer):
            found.names.setdefault(name.removeprefix(found.outer), own)
    return found


def _take(found: Alignment, part: str, place: _Place, group: Iterable[str]) -> None:
    found.found_under[part] = place.theirs
    if not place.own:
        found.outer = place.theirs
    there = {name: found.names.get(place.of(name)) for name in group}
    found.names |= {name: own for name, own in there.items() if own is not None}


def _best(
    suggested: Iterable[_Place],
    names: Mapping[str, str],
    wanted: Mapping[str, Shape],
    held: Mapping[str, Shape],
) -> list[_Place]:
    """Return the places that hold the most of a part: one, none, or several that are equal."""
    scores: dict[_Place, tuple[int, int, int]] = {}
    for place in suggested:
        pairs = [(shape, names.get(place.of(name))) for name, shape in wanted.items()]
        there = [(shape, own) for shape, own in pairs if own is not None]
        if len(there) >= ENOUGH * len(wanted):
            fits = sum(same_but_for_ones(shape, held[own]) for shape, own in there)
            # The more of a name agrees, the better: a part may look like another.
            scores[place] = (fits, len(there), -len(place.own))
    best = [place for place, score in scores.items() if score == max(scores.values())]
    weights = [place for place in best if not _is_average(place.theirs)]
    return weights or best


def _several(source: str, part: str, places: Sequence[_Place]) -> UserError:
    shown = ", ".join(repr(place.theirs) for place in places)
    part = "model" if part == OTHER else part
    return UserError(
        f"{source} holds the {part} {len(places)} times, under {shown}; expected it once, or "
        "under the names of the configuration's model; save the one to use in a file of its own"
    )


def _suggested(
    group: Sequence[str], absent: Sequence[str], names: Iterable[str]
) -> dict[_Place, None]:
    """Suggest places: cut what a wanted name and one of the file have in common at their ends."""
    common = os.path.commonprefix(list(group)) if len(group) > 1 else ""
    suggested: dict[_Place, None] = {}
    for anchor in absent[:ANCHORS]:
        last = anchor.rpartition(".")[2]
        for name in names:
            if name.endswith(last):
                place = _cut(anchor, name)
                if common.startswith(place.own) and not place.is_anothers:
                    suggested[place] = None
    return suggested


def _cut(wanted: str, name: str) -> _Place:
    """Cut two names before the longest end that they share, at a dot."""
    ours, theirs = wanted.split("."), name.split(".")
    same = 0
    while same < min(len(ours), len(theirs)) and ours[-1 - same] == theirs[-1 - same]:
        same += 1
    parts = (pieces[: len(pieces) - same] for pieces in (ours, theirs))
    return _Place(*(".".join([*pieces, ""]) if pieces else "" for pieces in parts))


def _is_average(prefix: str) -> bool:
    return any(piece in ("ema", "model_ema", "ema_model") for piece in prefix.split("."))


def same_but_for_ones(one: Shape, other: Shape) -> bool:
    """Check whether two shapes are equal, or one has further axes of length 1.

    >>> same_but_for_ones((8, 8), (8, 8, 1, 1)), same_but_for_ones((1, 8), (8, 1))
    (True, False)
    """
    if len(one) == len(other):
        return one == other
    return [n for n in one if n != 1] == [n for n in other if n != 1]


def nearest(name: str, shape: Shape, held: Mapping[str, Shape]) -> str | None:
    """Return the name most like a wanted one among those held, or None if none is like it.

    Names are alike by the words that they share; of equals, one of the same shape comes first.
    """
    words = _words(name)

    def likeness(other: str) -> tuple[float, bool]:
        theirs = _words(other)
        return len(words & theirs) / len(words | theirs), same_but_for_ones(shape, held[other])

    best = max(held, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= 0.25 else None


def _words(name: str) -> frozenset[str]:
    return frozenset(name.replace("_", ".").split("."))
