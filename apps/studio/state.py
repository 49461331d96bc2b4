"""What the parts of the studio share: what a tab is, and the studio itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.server.pace import Pace
from optimizedSD.web.uploads import Uploads

if TYPE_CHECKING:
    from gradio.components import Component

    from apps.studio.queue import Queue
    from apps.studio.settings import StudioSettings
    from apps.studio.styles import Style
    from optimizedSD.web.fields import Field

HINTS = ".hints"
"""A folder below that of the pictures."""


@dataclass
class Tab:
    """A tab as the others see it.

    Attributes:
        name: Its name, which is its id in the row of tabs and its key in ``words``.
        receives: The components that others fill: ``picture`` (a component that shows a picture),
            ``recipe`` (components by the names of settings), ``controls`` (its ``Controls``).
        wire: Connects it to the others, called once when all tabs are there.
        opened: A function, its inputs and its outputs, called each time that the tab is opened.
    """

    name: str
    receives: Mapping[str, Any] = field(default_factory=dict)
    wire: Callable[[Studio, Mapping[str, Tab]], None] | None = None
    opened: tuple[Callable[..., Any], Sequence[Any], Sequence[Any]] | None = None


@dataclass
class Studio:
    """What every tab is built with.

    Attributes:
        queue: Draws for all.
        flags: The command line.
        fixed: Settings that the command line fixes for every run.
        styles: That prompts can be given, by name.
        wildcards: The folder of the lists that prompts may draw from; None is none.
        bar: The row of tabs (``gradio.Tabs``), set by ``page``: ``gr.Tabs(selected=name)`` as its
            value opens a tab.
        pace: How fast sweeps are drawn.
        models: Checkpoints from elsewhere that are on the menu: the command line's.
        kept: Components whose values a reload keeps, by a name for each; tabs add theirs while
            they are built.
        menus: Those of all forms, each with its field: their values are in the visitor's language.
        loads: What is called when the page is opened: a function, its inputs, its outputs.
        panels: The ``Panel`` of all tabs; what they show is kept too.
        under: Called with (studio, panel) inside every panel, below its pictures.
    """

    queue: Queue
    flags: StudioSettings
    fixed: Mapping[str, Any] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)
    wildcards: str | None = None
    bar: Any = None
    pace: Pace = field(default_factory=Pace)
    models: Sequence[Path] = ()
    kept: dict[str, Component] = field(default_factory=dict)
    menus: list[tuple[Component, Field]] = field(default_factory=list)
    loads: list[tuple[Callable[..., Any], Any, Any]] = field(default_factory=list)
    panels: list[Any] = field(default_factory=list)
    under: Sequence[Callable[[Studio, Any], None]] = ()

    @property
    def outdir(self) -> Path:
        """The folder of the pictures, absolute."""
        return Path(os.path.abspath(self.flags.outdir))

    @cached_property
    def hints(self) -> Uploads:
        """Where the pictures are kept that controls look at: hidden, so handed out to nobody."""
        return Uploads(Path(self.flags.outdir, HINTS))

    @property
    def own_size(self) -> int:
        """The side that the model was made for, in pixels."""
        return self.queue.pipeline.choice.size
