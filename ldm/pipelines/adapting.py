"""Adapters on a model for the time of a run, and kept loaded between the runs of a page.

What is attached is detached when the run ends, also by an error or where its caller stops early.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ldm.adapters.handle import Handle
from ldm.adapters.report import Report
from ldm.errors import UserError
from ldm.legible import one_line
from ldm.paths import file_size, modified
from ldm.pipelines.adapter_plan import AdapterPlan, PlannedControl, PlannedLora
from ldm.pipelines.masks import Mask
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.request import Request
from ldm.pipelines.shown_hints import Area, area_of, opened, shown
from ldm.settings.adapters import (
    GLIGEN,
    PICTURE,
    REFERENCE,
    STYLE,
    THROUGH_ENCODER,
    ControlWish,
)

KEPT = 8
"""Adapters that stay loaded, the last used ones."""


class Shelves:
    """Adapters that were read, by file; one that has changed since is read again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, Any] = OrderedDict()

    def get(self, path: Path, how: str, read: Callable[[], Any]) -> Any:
        """Return what was read from a file in some way, or read it now.

        Args:
            path: The file or folder.
            how: What it is read as.
            read: Reads it.
        """
        key = (path, how, file_size(path), modified(path))
        if key not in self._kept:
            self._kept[key] = read()
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


class Attached:
    """The adapters of a run on its model.

    Args:
        model: The hub.
        plan: What is wanted.
        shelves: Where read adapters are kept.
        observer: Told once what each is.
        size: Height and width of the pictures, in pixels.
        mask: What inpainting repaints, of that size.
        area: What of a picture is drawn; None if that is all of it.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: AdapterPlan,
        shelves: Shelves,
        observer: Observer,
        size: tuple[int, int],
        mask: Mask | None,
        area: Area | None = None,
    ) -> None:
        self.model, self.plan, self.shelves, self.observer = model, plan, shelves, observer
        self.size, self.mask, self.area = size, mask, area
        self._told: set[Path] = set()
        self._handles: list[Handle] = []
        self._loras: dict[Path, tuple[PlannedLora, Handle]] = {}

    def begin(self, batches: Sequence[Sequence[str]]) -> None:
        """Attach what the run begins with.

        Args:
            batches: The prompts of each batch that will be drawn.

        Raises:
            UserError: One cannot be read, is made for other models, or does not go with others.
        """
        for prompts in batches:
            self.plan.loras_of_batch(prompts)  # raises before anything is drawn
        for text in self.plan.notices:
            self.observer(Notice(text, warning=True))
        for each in self.plan.embeddings:
            self._attach_embedding(each.path)
        for control in self.plan.controls:
            self._handles.append(self._attach_control(control))
        self.turn_to(next(iter(batches), ()))

    def turn_to(self, prompts: Iterable[str]) -> bool:
        """Let the LoRAs act that a batch's prompts want, at their scales.

        Returns:
            Whether anything has changed.

        Raises:
            UserError: The prompts want different ones, or one cannot be attached.
        """
        wanted = {each.path: each for each in self.plan.loras_of_batch(prompts)}
        if wanted == {path: lora for path, (lora, _) in self._loras.items()}:
            return False
        for path in [path for path in self._loras if path not in wanted]:
            self._loras.pop(path)[1].detach()
        for path, lora in wanted.items():
            before = self._loras.get(path)
            if before is None:
                self._loras[path] = lora, self._attach_lora(lora)
            elif before[0] != lora:
                before[1].scale, before[1].text_scale = lora.unet, lora.text
                self._loras[path] = lora, before[1]
        return True

    def end(self) -> None:
        """Give the model back as it was."""
        handles = [*self._handles, *(handle for _, handle in self._loras.values())]
        self._handles, self._loras = [], {}
        for handle in reversed(handles):
            handle.detach()

    @property
    def networks(self) -> list[nn.Module]:
        """The networks beside the model that compute while it does."""
        return [network for handle in self._handles for network in handle.networks]

    def _attach_lora(self, lora: PlannedLora) -> Handle:
        from ldm.adapters.lora import read_lora

        read = self.shelves.get(lora.path, "lora", lambda: read_lora(lora.path))
        handle = read.attach(self.model, lora.unet, text_scale=lora.text)
        self._tell(read.report)
        return handle

    def _attach_embedding(self, path: Path) -> None:
        from ldm.adapters.textual_inversion import read_embedding

        embedding = self.shelves.get(path, "embedding", lambda: read_embedding(path))
        self._handles.append(embedding.attach(self.model))
        self._tell(embedding.report)

    def _attach_control(self, control: PlannedControl) -> Handle:
        wish = control.wish
        attach = {
            PICTURE: self._attach_picture,
            GLIGEN: self._attach_boxes,
            REFERENCE: self._attach_reference,
        }.get(wish.kind, self._attach_network)
        return attach(control)

    def _attach_network(self, control: PlannedControl) -> Handle:
        from ldm.adapters.control import read_control

        wish, path = control.wish, control.path
        how = f"control for {id(self.model)}"
        network = self.shelves.get(path, how, lambda: read_control(path, self.model))
        _check_kind(wish, network)
        self._tell(network.report)
        picture, window = shown(control, self.size, self.mask, self.area), (wish.start, wish.end)
        if wish.kind == STYLE:  # it has no modes: that of other controls is not its own
            clip = control.image_encoder
            return network.attach(self.model, picture, wish.scale, *window, clip=clip)
        return network.attach(self.model, picture, wish.scale, *window, control.mode, resize="crop")

    def _attach_picture(self, control: PlannedControl) -> Handle:
        from ldm.adapters.ip_adapter import read_ip_adapter

        wish, path, encoder = control.wish, control.path, control.image_encoder
        read = self.shelves.get(path, f"ip {encoder}", lambda: read_ip_adapter(path, encoder))
        handle = read.attach(self.model, opened(wish.image), wish.scale, wish.start, wish.end)
        self._tell(read.report)
        return handle

    def _attach_boxes(self, control: PlannedControl) -> Handle:
        from ldm.adapters.gligen import read_gligen

        wish, path = control.wish, control.path
        read = self.shelves.get(path, "gligen", lambda: read_gligen(path))
        boxes = [(each.words, each.box) for each in control.boxes]
        handle = read.attach(self.model, boxes, wish.end, wish.scale)
        self._tell(read.report)
        return handle

    def _attach_reference(self, control: PlannedControl) -> Handle:
        from ldm.adapters.control import reference_only

        wish, reference = control.wish, reference_only(self.model)
        picture = shown(control, self.size, self.mask, self.area)
        window = wish.start, wish.end
        seed = self.plan.settings.seed
        return reference.attach(self.model, picture, wish.scale, *window, control.mode, seed=seed)

    def _tell(self, report: Report) -> None:
        """Say once a run what a file is, and what of it is not used."""
        if report.path in self._told:
            return
        self._told.add(report.path)
        self.observer(Notice(one_line(report.summary())))
        for text in report.warnings():
            self.observer(Notice(one_line(text), warning=True))


def _check_kind(wish: ControlWish, network: Any) -> None:
    """Refuse a style adapter that is to see a drawing, and the reverse."""
    from ldm.adapters.control.reading import StyleControl

    if isinstance(network, StyleControl) == (wish.kind == STYLE):
        return
    raise UserError(
        f"--control {wish.kind}={network.report.path.name}:... was given, and the file is a "
        f"{network.report.kind}; expected "
        + (
            "a T2I style adapter; give this one as hint=..., or as the kind of hint it is for"
            if wish.kind == STYLE
            else "a ControlNet or T2I-Adapter; give this one as style=... with --image_encoder"
        )
    )


@contextmanager
def attached(
    model: nn.Module,
    request: Request,
    shelves: Shelves,
    observer: Observer,
) -> Iterator[Attached]:
    """Attach the adapters of a request for the time of the block; see ``Attached``."""
    mask = None if request.image is None else request.image.mask
    area = area_of(request)
    looking = [c.wish for c in request.adapters.controls if c.wish.kind not in THROUGH_ENCODER]
    if area is not None and any(wish.image for wish in looking):
        width, height = area.whole
        text = (
            f"of the pictures of --control, those of {width}x{height} pixels are cropped to the "
            "area that is drawn; others lie over the area that is drawn, not over the whole one"
        )
        observer(Notice(text))
    held = Attached(model, request.adapters, shelves, observer, request.size, mask, area)
    try:
        held.begin([batch.prompts for batch in request.batches if batch.kept])
        yield held
    finally:
        held.end()
