"""The program that edits pictures by their prompts: a source and its targets beside each other.

samples/00000.png ...   each batch's targets, then its sources
<target>_tar-0000.png   the grid of a target
<source>_src-0000.png   the grid of the sources
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ldm.programs.drawing import DrawingProgram
from ldm.programs.naming import ReferenceNaming, slug
from ldm.settings.language import Originals, as_typed
from ldm.settings.swap import SwapSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and torch, which --help can do without
    from ldm.pipelines.attention_maps import MapWriter
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.programs.output import OutputFolder


class SwapNaming(ReferenceNaming):
    """Singles as in the reference, grids by prompt, as CrossAttentionControl names them.

    Args:
        sourced: Whether pictures that are no edits are sources, and not all there is.
        originals: Prompts that were translated, and what was typed, which names the file.
    """

    def __init__(self, sourced: bool, originals: Originals = ()) -> None:
        self.sourced, self._originals = sourced, originals

    def grid(self, picture: Picture) -> tuple[str, str]:
        role = "src" if self.sourced and picture.number == 0 else "tar"
        name = slug(as_typed(picture.prompt, self._originals))
        name = name.replace("{", "(").replace("}", ")")  # a pattern has one field
        return "", f"{name}_{role}-{{:04d}}.png"


class SwapProgram(DrawingProgram):
    """Draws a source and its edits.

    Args:
        description: First lines of ``--help``.
    """

    settings: SwapSettings

    def __init__(self, description: str) -> None:
        super().__init__(SwapSettings, description)
        self._writer: MapWriter | None = None

    def prepare(self, given: dict[str, Any]) -> None:
        """Work out the request, where the lines of a file are targets."""
        if "from_file" in given:
            given = self._with_lines(given)
        super().prepare(given)

    def _with_lines(self, given: dict[str, Any]) -> dict[str, Any]:
        from ldm.pipelines.batches import read_prompts

        path = given["from_file"]
        first, *others = read_prompts(SwapSettings(from_file=path))
        if "prompt" in given:
            self.console.warn(f"--prompt is not used: the prompts come from {path}")
        changed = {"prompt": first, "also": (*others, *given.get("also", ()))}
        return {k: v for k, v in given.items() if k != "from_file"} | changed

    def make_output(self) -> OutputFolder:
        """Return where the pictures go."""
        from ldm.programs.output import OutputFolder

        settings = self.settings
        naming = SwapNaming(settings.source is not None, settings.originals)
        return OutputFolder(settings.outdir, settings.format, naming)

    def draw(self, pipeline: Pipeline) -> Iterator[Picture]:
        """Return the pictures; with ``--is_get_attn`` their maps are written beside them."""
        return self._mapped(pipeline) if self.settings.is_get_attn else super().draw(pipeline)

    def _mapped(self, pipeline: Pipeline) -> Iterator[Picture]:
        from ldm.pipelines.walks import steps_of

        self._writer = writer = self._make_writer(pipeline)
        request = self.request
        n_samples = self.settings.n_samples
        plan = {
            "steps": steps_of(request, pipeline.model),
            "n_samples": n_samples,
            "batches": sum(bool(batch.kept) for batch in request.batches),
        }
        latent = tuple(side // self.settings.f for side in request.size)
        self.console.say(writer.announce(pipeline.model, latent, **plan))
        drawn = pipeline.generate(request, observer=self.console.observe, controller=writer)
        with closing(drawn):
            for picture in drawn:
                # The row in the whole batch: all of the first prompt, all of the second, ...
                writer.take(picture.plain, picture.number * n_samples + picture.place.row)
                yield picture
        self.console.say(writer.finish())

    def left_behind(self) -> str:
        """Say what an interrupted run leaves behind, maps included."""
        left = super().left_behind()
        if self._writer is None or not self._writer.files:
            return left
        left = left if self.output.summary() else "no picture was written"
        return f"{left}; {self._writer.finish()}"

    def _make_writer(self, pipeline: Pipeline) -> MapWriter:
        from ldm.modules.attention_control.words import read_prompt
        from ldm.pipelines.attention_maps import MapWriter
        from ldm.pipelines.edits import tokenizer_of

        settings, tokenizer = self.settings, tokenizer_of(pipeline.model)
        return MapWriter(
            settings.save_attn_dir,
            [read_prompt(tokenizer, text) for text in settings.drawn_prompts],
            every=settings.every,
            half=settings.half,
            observer=self.console.observe,
        )
