"""What looks at pictures while a model draws, as a page offers it: ControlNets, image prompts.

    controls_there(model) -> [Network("canny", "ControlNet", path), ...]
    control_text(network, kind, image, act) -> "canny=canny:outputs/studio/.hints/ab12.png:0.8:0:1"

Visitors choose names of lists; what a name stands for is looked up here, so that no path is typed.
What fits the model is told by the files' shapes; no weights are read, and nothing in them is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from apps.studio.networks import NOTHING
from ldm.errors import UserError
from ldm.legible import legible, quoted
from ldm.paths import identity, is_folder, real_path
from ldm.pipelines.adapter_files import CONTROLS, on_shelf
from ldm.settings.adapters import CONTROL_MODES, PICTURE, PLAIN, REFERENCE, STYLE, ControlWish
from ldm.settings.hints import HINTS

if TYPE_CHECKING:
    from torch import nn

    from ldm.adapters.fitting import Look

KINDS = ("control", "image_prompt")
"""What there are fields for: networks that hold to a picture, and those that draw alike."""
OF_MODEL = REFERENCE
"""On the list of controls: no file, the model's own UNet looks at the picture."""
MODES = CONTROL_MODES[:3]  # the fourth is the third under another program's name
STRONGEST = 2.0  # of a slider: beyond it pictures break
_LOOKS: WeakKeyDictionary[nn.Module, dict[Any, Look]] = WeakKeyDictionary()
NAMELESS = "its name has a colon, which ends a name here; rename the file"
_MOST_LINES = 20  # files that are named as not fitting


@dataclass(frozen=True)
class Network:
    """A file of models/controlnet.

    Attributes:
        name: What a visitor chooses; no two are the same.
        kind: What it is, as ``ldm.adapters.fitting`` says it.
        path: Its file or folder.
        fault: Why it cannot be chosen; empty if it can.
        given: What ``--control`` calls it: its name, or its path where several have that name.
    """

    name: str
    kind: str
    path: Path
    fault: str = ""
    given: str = ""


@dataclass(frozen=True)
class Act:
    """How strongly a network acts, and from which fraction of the steps to which.

    Example:
        >>> Act.of(0.8, 0, 1.0)
        Act(scale=0.8, start=0.0, end=1.0)
    """

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, scale: Any, start: Any, end: Any) -> Act:
        """Read what three sliders hold.

        Raises:
            UserError: One is no number, or out of range.
        """
        return cls(_within(scale, STRONGEST), _within(start, 1.0), _within(end, 1.0))


def networks_there(model: nn.Module, encoder: str | None = None) -> list[Network]:
    """Return what lies in models/controlnet, in the order of names, with what does not fit.

    Args:
        model: The one that is loaded.
        encoder: The folder of the CLIP image encoder, if there is one.
    """
    paths = list({real_path(path): path for path in reversed(on_shelf(CONTROLS))}.values())
    stems = [_stem(path) for path in paths]
    found = []
    for path, stem in zip(paths, stems, strict=True):
        alone, look = stems.count(stem) == 1, _look(path, model)
        name, given = (stem, stem) if alone else (_longer(path), str(path))
        fault = look.fault or (NAMELESS if ":" in name else "")
        if not fault and look.needs_encoder and encoder is None:
            fault = "it looks through a CLIP image encoder; start the studio with --image_encoder"
        found.append(Network(name, look.kind, path, legible(fault), given))
    return sorted(found, key=lambda each: each.name.lower())


def _look(path: Path, model: nn.Module) -> Look:
    """Return what a file is to a model; looked at once while neither changes."""
    from ldm.adapters.fitting import looked_at

    known, key = _LOOKS.setdefault(model, {}), (path, identity(path))
    if key not in known:
        known[key] = looked_at(path, model)
    return known[key]


def offered(networks: Iterable[Network], key: str) -> dict[str, Network]:
    """Return those that can be chosen, by name.

    Args:
        networks: All that there are.
        key: Of ``KINDS``.
    """
    from ldm.adapters.fitting import DRAWN, SEEN

    wanted = DRAWN if key == KINDS[0] else SEEN
    own = {OF_MODEL: Network(OF_MODEL, OF_MODEL, Path())} if key == KINDS[0] else {}
    fitting = (each for each in networks if each.kind in wanted and not each.fault)
    return own | {each.name: each for each in fitting if each.name not in own}


def unfit(networks: Iterable[Network]) -> list[str]:
    """Return a line for each file that cannot be chosen: its name, and why."""
    lines = [f"{each.name}: {each.fault}" for each in networks if each.fault]
    more = [f"… {len(lines) - _MOST_LINES}"] if len(lines) > _MOST_LINES else []
    return [*lines[:_MOST_LINES], *more]


def hint_kinds(*, masked: bool = False) -> list[str]:
    """Return what can be made of a picture here, the picture itself first.

    Args:
        masked: Whether the tab has a mask, which one kind needs.
    """
    made = [name for name, kind in HINTS.items() if name != "inpaint" and not _is_by_network(kind)]
    return [PLAIN, *made, *(["inpaint"] if masked else [])]


def chosen(name: Any, networks: Mapping[str, Network]) -> Network | None:
    """Return the network of a name; None if nothing is chosen.

    Raises:
        UserError: It is not offered.
    """
    if name in (NOTHING, "", None):
        return None
    if not isinstance(name, str) or name not in networks:
        raise UserError(
            f"there is no {quoted(str(name))} among the networks for this model; expected one of "
            "the list; choose one"
        )
    return networks[name]


def one_of(value: Any, offered: Iterable[str]) -> str:
    """Return a value of a list.

    Raises:
        UserError: It is not on it.
    """
    if value not in tuple(offered):
        raise UserError(
            f"{quoted(str(value))} is not on the list; expected one of it; choose again"
        )
    return value


def control_text(network: Network, kind: str, image: str, act: Act) -> str:
    """Return what ``--control`` would be given.

    Args:
        network: What looks at the picture.
        kind: What the picture is to it: one of ``hint_kinds``; image prompts have their own.
        image: The picture's file.
        act: How strongly, and when.
    """
    return str(ControlWish(kind, network.given, image, act.scale, act.start, act.end))


def kind_of_prompt(network: Network) -> str:
    """Return what a picture is to a network that takes it as a prompt."""
    from ldm.adapters.control.files import STYLE as STYLE_ADAPTER

    return STYLE if network.kind == STYLE_ADAPTER else PICTURE


def _is_by_network(kind: Any) -> bool:
    """Return whether a kind of hint needs a folder that nobody has given."""
    needed = {name for name, value in kind.defaults.items() if value is None}
    return bool(needed - {*kind.optional})


def _within(value: Any, most: float) -> float:
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not number or not math.isfinite(value) or not 0 <= value <= most:
        raise UserError(
            f"{quoted(str(value))} was given as a strength, start or end; expected a number from 0 "
            f"to {most:g}; change it"
        )
    return float(value)


def _stem(path: Path) -> str:
    return path.name if is_folder(path) else path.stem


def _longer(path: Path) -> str:
    """Return a name that says the folder and the ending too."""
    for place in CONTROLS.places:
        if path.is_relative_to(place):
            return path.relative_to(place).as_posix()
    return path.name
