"""Write where each word of a prompt looks: maps of every step, their mean, and panels to look at.

    DIR/crossatt/*.npy   head-means under the edited prompt, or under the only one
    DIR/maps.npz         their means over steps and the layers of one resolution
    DIR/panel_00000.png  a heat map over the picture for each word
    DIR/steps_00000.png  words by steps

Further prompts of a batch have the same in ``DIR/source``, ``DIR/target2``, ...; further batches
in ``DIR/batch0001``, ... ``ldm.pipelines.attention_files`` explains the files' names.

Shapes: B rows of a batch, n samples of a prompt, h w sides of a map, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.images.lettering import HOW_TO_INSTALL, draw_text
from ldm.legible import quoted
from ldm.modules.attention_control.controller import Controller, Predict
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.words import TokenizedPrompt
from ldm.paths import PathLike
from ldm.pipelines.attention_files import MAPS, MEANS, MapFolder, MapNames, save_maps, save_means
from ldm.pipelines.attention_means import MeanMaps
from ldm.pipelines.attention_panels import panel, sheet
from ldm.pipelines.attention_plan import MapPlan, require_every
from ldm.pipelines.progress import Notice, Observer, log_events


class MapWriter(Controller):
    """Writes the maps of all cross-attention while a sampler of ldm draws; changes nothing.

    A sampler's batch is [n samples of the first prompt, n of the second, ...]. Of a step in which
    the model is called several times, the first call is written. In a ``Chain`` it belongs behind
    what edits: it then writes the maps that are used.

    Where the folder holds maps of an earlier run, its first free sibling ``DIR-2``, ... is used.
    A walk that begins before a picture of the last one was taken is another try at the same batch
    and replaces its files.

    Args:
        folder: ``--save_attn_dir``.
        prompts: The source and its targets, in the order of the batch; or one prompt.
        every: Write each ``every``-th step, beginning with the first. Means are of all steps.
        half: Write float16, not float32; means are float32.
        observer: Called with notices.

    Attributes:
        files: How many files of maps are written.

    Raises:
        UserError: ``every`` is below 1.

    Example:
        writer = MapWriter("maps", [read_prompt(tokenizer, "a cat")])
        print(writer.announce(model, (16, 16), steps=50, n_samples=2))
        with control_attention(model, writer):
            for picture in pipeline.generate(settings):
                writer.take(picture.plain, picture.place.row)
        print(writer.finish())
    """

    def __init__(
        self,
        folder: PathLike,
        prompts: Sequence[TokenizedPrompt],
        *,
        every: int = 1,
        half: bool = False,
        observer: Observer = log_events,
    ) -> None:
        require_every(every)
        self.prompts, self.every, self.half, self.observer = tuple(prompts), every, half, observer
        self.folder = MapFolder(folder)
        self._sites: list[Site] = []
        self._batch = -1
        self._taken = True  # the next walk is a new batch's
        self._open = False  # between before_step and after_step
        self._rows = 0
        self._gathered: dict[str, dict[int, Tensor]] = {}
        self._means: MeanMaps | None = None
        self.files = self._panels = 0
        self._unwritable: set[str] = set()

    def announce(self, model: Any, latent: tuple[int, int], **plan: Any) -> str:
        """Say what will be written, before anything is drawn.

        Args:
            model: What draws.
            latent: The latents' sides (h, w).
            **plan: ``steps``, ``n_samples`` and ``batches`` of ``MapPlan``.

        Raises:
            UserError: It is too much, or there is no room for it.
        """
        own = {"every": self.every, "half": self.half, "prompts": len(self.prompts)}
        planned = MapPlan.of(model, latent, length=self.prompts[0].length, **own, **plan)
        planned.check(self.folder.path)
        beside = ""
        if self.folder.path != self.folder.wanted:
            beside = f" ({self.folder.wanted} holds the maps of an earlier run)"
        return planned.sentence(self.folder.path) + beside

    def begin(self, sites: Sequence[Site]) -> None:
        self._sites, self._open = [site for site in sites if site.kind == "cross"], False
        self._names = MapNames(self._sites)

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:  # noqa: ARG002
        if moment.number == 0 or self._means is None:
            self._begin_batch(len(x))
        # What others predicted before this step was at samples that they may have changed since.
        self._gathered, self._open = {}, True
        return x

    def _begin_batch(self, rows: int) -> None:
        if rows % len(self.prompts):
            raise UserError(
                f"a batch of {rows} pictures for {len(self.prompts)} prompts; expected as many of "
                "each; draw whole batches, or give attention maps one prompt"
            )
        self._rows, self._means = rows, MeanMaps(self._sites)
        self._batch += self._taken
        self._taken = False

    def wants(self, site: Site, moment: Moment) -> bool:
        return self._open and site.kind == "cross" and moment.evaluation == 0

    def __call__(self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]) -> None:
        maps = probs.detach().mean(1).unflatten(1, site.side).cpu()  # (b, h, w, L)
        gathered = self._gathered.setdefault(site.path, {})
        before = len(gathered)
        for own, row in zip(maps, rows, strict=True):
            if row.part == "cond":
                gathered.setdefault(row.picture, own)
        if before < len(gathered) == self._rows:
            self._keep(torch.stack([gathered[n] for n in range(self._rows)]), site, moment)

    def _keep(self, maps: Tensor, site: Site, moment: Moment) -> None:
        """Take the maps of all rows (B, h, w, L) of a layer."""
        length = self.prompts[0].length
        if maps.shape[-1] != length:
            raise UserError(
                f"the model looks at {maps.shape[-1]} tokens and the prompts were read as {length};"
                " expected the text encoder's own tokenizer; read the prompts with it"
            )
        self._means.add(site, moment, maps)
        if moment.number % self.every:
            return
        numbers = maps.numpy().astype(np.float16 if self.half else np.float32)
        name = self._names.name(site, moment.time)
        for role, part in zip(self._roles, np.split(numbers, len(self.prompts)), strict=True):
            save_maps(part, self.folder.of(self._batch, role) / MAPS / name)
            self.files += 1

    @property
    def _roles(self) -> list[str]:
        """The folder of each prompt: that of the edited one is the run's own."""
        more = [f"target{number}" for number in range(2, len(self.prompts))]
        return ["source", "", *more] if len(self.prompts) > 1 else [""]

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        self._open, self._gathered = False, {}
        if moment.is_last:
            self._save_means()
        return x

    def _save_means(self) -> None:
        means = self._means.means()
        for k, (role, prompt) in enumerate(zip(self._roles, self.prompts, strict=True)):
            own = {name: np.split(maps, len(self.prompts))[k] for name, maps in means.items()}
            path = self.folder.of(self._batch, role) / MEANS
            save_means(own, prompt, self._means.steps_done, path)

    def take(self, pixels: np.ndarray, row: int) -> None:
        """Draw the panels of a finished picture.

        Args:
            pixels: uint8 (H, W, 3).
            row: Its row in the last batch.

        Raises:
            ValueError: That batch has no such row.
            UserError: The files cannot be written.
        """
        if self._means is None:  # no step was taken: an init image at strength 0
            return
        if not 0 <= row < self._rows:
            raise ValueError(f"row {row} of {self._rows}; take pictures of the last batch drawn")
        self._taken = True
        number, sample = divmod(row, self._rows // len(self.prompts))
        words = self.prompts[number].words()
        if not words:
            return
        self._tell_of_letters(word.text for word in words)
        folder = self.folder.of(self._batch, self._roles[number])
        shown = panel(pixels, self._means.word_level()[row], words)
        save_picture(shown, folder / f"panel_{sample:05d}.png")
        steps = {step: maps[row] for step, maps in self._means.at_steps().items()}
        save_picture(sheet(pixels, steps, words), folder / f"steps_{sample:05d}.png")
        self._panels += 1

    def _tell_of_letters(self, words: Iterable[str]) -> None:
        """Say once of each word that no font at hand can write it."""
        new = {word for word in words if draw_text(word, 16) is None} - self._unwritable
        if new:
            self._unwritable |= new
            these = ", ".join(quoted(word) for word in sorted(new))
            text = f"no font here has all letters of {these}: the panels number their tokens; "
            self.observer(Notice(text + HOW_TO_INSTALL, warning=True))

    def finish(self) -> str:
        """Say what was written, after the last picture."""
        if not self.files:
            return "no attention maps were written: no step was taken"
        panels = f", and panels of {self._panels} picture(s)" if self._panels else ""
        return f"attention maps: {self.folder.path} ({self.files:,} files of maps{panels})"
