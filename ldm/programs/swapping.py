"""The program that edits pictures by their prompts: a source and its targets beside each other.

samples/00000.png ...   each batch's targets, then its sources
<target>_tar-0000.png   the grid of a target
<source>_src-0000.png   the grid of the sources
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ldm.programs.drawing import DrawingProgram
from ldm.programs.naming import ReferenceNaming, slug
from ldm.settings.swap import SwapSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and torch, which --help can do without
    from ldm.pipelines.progress import Picture
    from ldm.programs.output import OutputFolder


class SwapNaming(ReferenceNaming):
    """Singles as in the reference, grids by prompt, as CrossAttentionControl names them.

    Args:
        sourced: Whether pictures that are no edits are sources, and not all there is.
    """

    def __init__(self, sourced: bool) -> None:
        self.sourced = sourced

    def grid(self, picture: Picture) -> tuple[str, str]:
        role = "src" if self.sourced and picture.number == 0 else "tar"
        name = slug(picture.prompt).replace("{", "(").replace("}", ")")  # a pattern has one field
        return "", f"{name}_{role}-{{:04d}}.png"


class SwapProgram(DrawingProgram):
    """Draws a source and its edits.

    Args:
        description: First lines of ``--help``.
    """

    settings: SwapSettings

    def __init__(self, description: str) -> None:
        super().__init__(SwapSettings, description)

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

        naming = SwapNaming(self.settings.source is not None)
        return OutputFolder(self.settings.outdir, self.settings.format, naming)
