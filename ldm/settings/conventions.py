"""What programs that draw may do their own way, and what is usual. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ldm.settings.model_kind import ModelKind, Task
from ldm.settings.option import Settings

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on


@dataclass(frozen=True, kw_only=True)
class Conventions(Settings):
    """Base of the settings of drawing; each program overrides where its own conventions differ.

    Attributes:
        task: What is drawn; the kind of model says what draws it.
        wanted: The model that this needs, in words.
        init: Whether it starts from a picture.
        takes_tags: Whether tags in prompts, such as ``<lora:style:0.8>``, name files.
    """

    task: ClassVar[Task] = "text"
    wanted: ClassVar[str] = "one that draws from text"
    init: ClassVar[Literal["none", "required", "optional"]] = "none"
    takes_tags: ClassVar[bool] = True

    @property
    def wants_text(self) -> bool:
        """Whether the pictures are drawn from a prompt."""
        return True

    def draws_with(self, kind: ModelKind) -> bool:
        """Return whether a kind of model can draw what these settings ask for."""
        return self.task in kind.walks

    @property
    def fixed_by_task(self) -> Collection[str]:
        """Settings that a model may not choose, since few values can do what is asked."""
        return ()

    @property
    def low_memory(self) -> bool:
        """Whether the model's stages take turns on the device."""
        return False

    @property
    def takes_folder(self) -> bool:
        """Whether init images come from a folder, one after another."""
        return False

    def suited(self, kind: ModelKind, named: Collection[str]) -> Self:  # noqa: ARG002
        """Return these settings with what depends on the kind of model filled in.

        Args:
            kind: The model's.
            named: Settings that the user gave.

        Raises:
            UserError: such a model cannot draw with what was given, or needs something more.
        """
        return self

    def with_seed(self) -> Self:
        """Return these settings, with a random seed if they have none."""
        return self

    @property
    def per_line(self) -> int:
        """How many pictures an iteration draws for each line of a prompt file."""
        return 1

    def mixture(self, prompt: str) -> list[tuple[str, float]]:
        """Return the texts that a prompt is encoded as, and their shares, which sum to 1."""
        return [(self.untagged(prompt), 1.0)]

    def untagged(self, prompt: str) -> str:
        """Return a prompt without the tags that name LoRAs."""
        if not self.takes_tags or "<" not in prompt:
            return prompt
        from ldm.settings.tags import without_loras  # few prompts have one

        return without_loras(prompt)

    @property
    def starts_from_picture(self) -> bool:
        """Whether a picture is given, or has to be, to start from."""
        return self.init == "required"

    @property
    def takes_mask(self) -> bool:
        """Whether only a part of the picture that it starts from is drawn."""
        return False

    def final_size(self, size: tuple[int, int], multiple: int) -> tuple[int, int]:  # noqa: ARG002
        """Return the height and width of pictures that are first drawn at ``size``, in pixels.

        Args:
            size: Height and width of the first walk.
            multiple: What sides must be multiples of.
        """
        return size

    @property
    def unrecorded(self) -> Collection[str]:
        """Settings that a picture need not record: it does not depend on them as they are."""
        return ()

    def further_entries(self) -> Mapping[str, str]:
        """Return what pictures record besides the settings that are so marked; "" is nothing."""
        return {}
