"""What a user of ``scripts/swap.py`` can choose: two prompts, and how one picture becomes another.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from ldm.errors import UserError
from ldm.settings.edit_words import (
    DEFAULT,
    read_blend,
    read_weights,
    read_window,
    read_windows,
    weights_text,
    window_text,
)
from ldm.settings.generation import DRAWING_GROUPS, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.hires import NoHires
from ldm.settings.low_memory import SmallDevice, size_in_proportion
from ldm.settings.model_kind import ModelKind, Task
from ldm.settings.option import changed, option

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on

MODES = ("auto", "replace", "refine")
INVERSIONS = ("none", "ddim", "null-text", "negative-prompt")
# What has no effect without an edit; the defaults are neutral.
_EDIT = ("mode", "reweight", "blend", "cross_replace_steps", "self_replace_steps")
# What a picture records only where it is not the default: other programs' pictures lack it.
_SAID_IF_CHOSEN = (*_EDIT, "is_swap", "use_mask", "invert")


@dataclass(frozen=True, kw_only=True)
class SwapSettings(NoHires, Txt2ImgSettings):
    """Settings of prompt-to-prompt: the picture of ``sprompt`` is edited into that of ``prompt``.

    Without ``is_swap`` nothing is edited: the prompts are drawn beside each other from the same
    noise.

    Example:
        >>> SwapSettings(sprompt="a cat", prompt="a dog", is_swap=True).drawn_prompts
        ('a cat', 'a dog')
    """

    program: ClassVar[str] = "swap"
    groups: ClassVar[Mapping[str, str]] = {
        "prompt": DRAWING_GROUPS["prompt"],
        "edit": "how the source becomes the target",
        "maps": "what each word looks at",
        **{key: title for key, title in DRAWING_GROUPS.items() if key != "prompt"},
    }
    task: ClassVar[Task] = "edit"
    init: ClassVar[Literal["none", "required", "optional"]] = "optional"
    keeps_size: ClassVar[bool] = False
    takes_tags: ClassVar[bool] = False  # words are edited by where they stand

    wildcards: ClassVar[None] = None  # what is edited is the words that both prompts have
    prompt: str = changed(Txt2ImgSettings, "prompt", help="the edited prompt (the target)")
    sprompt: str | None = option(
        None,
        "the prompt of the picture that is edited (the source)",
        str,
        infotext="Source prompt",
        group="prompt",
        shown="none: only --prompt is drawn",
    )
    also: tuple[str, ...] = option(
        (),
        "another edited prompt of the same source; may be given several times",
        str,
        several="again",
        group="prompt",
    )
    from_file: str | None = changed(
        Txt2ImgSettings,
        "from_file",
        help="a UTF-8 text file of edited prompts of the same source, one on each line",
    )
    init_img: str | None = changed(
        Img2ImgSettings,
        "init_img",
        help="a picture to start from: noised as --strength says, or inverted, see --invert",
        shown="none: from noise",
    )
    use_mask: bool = option(
        False, "change only what --init-mask marks of --init-img", infotext="Masked", group="prompt"
    )
    mask: str | None = option(
        None,
        "a picture of the size of --init-img: white where it may change",
        str,
        flag="--init-mask",
        group="prompt",
        metavar="FILE",
    )
    strength: float = changed(
        Img2ImgSettings,
        "strength",
        help="how much to change --init-img: 0 keeps it, 1 starts from noise; of no effect "
        "without one",
        shown="0.75; 1 with --invert",
    )
    outdir: str = changed(Txt2ImgSettings, "outdir", default="outputs/swap-samples")
    n_iter: int = changed(Txt2ImgSettings, "n_iter", default=1)
    n_samples: int = changed(
        Txt2ImgSettings, "n_samples", default=2, help="pictures of each prompt, drawn in one batch"
    )

    is_swap: bool = option(
        False,
        "edit: give --prompt the attention of --sprompt",
        flag="--is-swap",
        infotext="Edit",
        group="edit",
    )
    mode: str = option(
        "auto",
        "replace swaps words, one for one; refine lets the words in common keep their places; "
        "auto replaces where the prompts have equally many words and refines elsewhere",
        choices=MODES,
        infotext="Edit mode",
        group="edit",
    )
    reweight: str | None = option(
        None,
        'how much words of --prompt count, as "snowy=2,house=-1"; 1 is as usual; without '
        "--sprompt, of the picture of --prompt itself",
        str,
        metavar="WORD=X,...",
        words='words with numbers, as "snowy=2,house=-1"',
        infotext="Edit weights",
        group="edit",
    )
    cross_replace_steps: str = option(
        "0.8",
        "during which share of the steps words have the source's attention: an end, start:end, or "
        'by word, "0.8,house=0.4,snowy=0:0.2"',
        metavar="X",
        words="a share of the steps from 0 to 1, or start:end",
        infotext="Edit cross steps",
        group="edit",
    )
    self_replace_steps: str = option(
        "0.4",
        "the same for the attention of the picture to itself: an end, or start:end",
        metavar="X",
        words="a share of the steps from 0 to 1, or start:end",
        infotext="Edit self steps",
        group="edit",
    )
    blend: str | None = option(
        None,
        'keep the source outside of where these words are: "cake|cake", words of --sprompt, a bar,'
        " words of --prompt",
        str,
        metavar="WORDS|WORDS",
        words='words of the source, a bar, and words of each edited prompt, as "cat|dog"',
        infotext="Edit blend",
        group="edit",
    )
    invert: str = option(
        "none",
        "find the noise that draws --init-img under --sprompt, so that it can be edited: "
        "null-text is the most exact and slow, negative-prompt quick; for ddim only",
        choices=INVERSIONS,
        infotext="Inversion",
        group="edit",
    )
    is_get_attn: bool = option(
        False,
        "write what each word looks at: .npy files, their mean, and pictures of it",
        group="maps",
    )
    save_attn_dir: str = option(
        "./save_attention_map_dir", "where to write that", metavar="FOLDER", group="maps"
    )
    every: int = option(1, "write the maps of every so many steps only", minimum=1, group="maps")
    half: bool = option(False, "write the maps in half precision", group="maps")

    @property
    def edits(self) -> bool:
        """Whether the source's attention is used at all."""
        return self.is_swap or bool(self.reweight or self.blend)

    @property
    def source(self) -> str | None:
        """The prompt of the picture that is edited; None if only targets are drawn."""
        if self.sprompt is None and self.edits:
            return self.prompt
        return self.sprompt

    @property
    def targets(self) -> tuple[str, ...]:
        """The edited prompts."""
        return (self.prompt, *self.also)

    @property
    def drawn_prompts(self) -> tuple[str, ...]:
        """All prompts: the source first, if there is one."""
        return (() if self.source is None else (self.source,)) + self.targets

    @property
    def starts_from_picture(self) -> bool:
        """Whether there is a picture to start from."""
        return self.init_img is not None

    @property
    def takes_mask(self) -> bool:
        """Whether only a part of the picture that it starts from is drawn."""
        return self.use_mask

    @property
    def unrecorded(self) -> Collection[str]:
        """Settings that a picture need not record: it does not depend on them as they are."""
        usual = [
            name for name in _SAID_IF_CHOSEN if getattr(self, name) == getattr(type(self), name)
        ]
        return usual if self.starts_from_picture else (*usual, "strength")

    def validate(self) -> None:
        """Check as ``Txt2ImgSettings.validate``, and what the edit is made of."""
        super().validate()
        if self.is_swap and self.sprompt is None:
            raise UserError(
                "--is-swap was given without a source; expected the prompt of the picture that is "
                'edited; add --sprompt "..."'
            )
        if self.prompt_syntax != "compvis" or self.clip_skip != 1:
            raise UserError(
                f"--prompt_syntax {self.prompt_syntax} and --clip_skip {self.clip_skip} were given;"
                " edits read plain prompts only; expected compvis and 1; weigh words with "
                "--reweight, or draw with scripts/txt2img.py"
            )
        read_weights(self.reweight)
        read_windows(self.cross_replace_steps)
        read_window(self.self_replace_steps, "--self_replace_steps")
        read_blend(self.blend, len(self.targets))
        self._check_mask()
        self._check_inversion()

    def _check_mask(self) -> None:
        if self.use_mask and (self.init_img is None or self.mask is None):
            raise UserError(
                "--use_mask was given; expected a picture and a mask for it; add --init-img FILE "
                "and --init-mask FILE"
            )
        if self.use_mask and self.invert != "none":
            raise UserError(
                f"--use_mask was given with --invert {self.invert}; an inverted picture is edited "
                "as a whole; leave one out, or keep the rest with --blend"
            )

    def _check_inversion(self) -> None:
        if self.invert == "none":
            return
        if self.init_img is None:
            raise UserError(
                f"--invert {self.invert} was given without a picture; expected one to invert; add "
                "--init-img FILE"
            )
        if self.source is None:
            raise UserError(
                f"--invert {self.invert} was given without a source; expected what the picture "
                'shows, in words; add --sprompt "..."'
            )
        if self.sampler != "ddim" or self.ddim_eta != 0:
            raise UserError(
                f"--invert {self.invert} was given with --sampler {self.sampler} and --ddim_eta "
                f"{self.ddim_eta}; only ddim's steps without noise can be turned round; leave them "
                "out"
            )

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:
        """List settings that have no effect in this combination, one sentence each."""
        found = super().notices(prompts)
        strength = type(self).strength
        if self.mask is not None and not self.use_mask:
            found.append(f"--init-mask {self.mask} has no effect without --use_mask")
        if self.init_img is None and self.strength != strength:
            found.append(f"--strength {self.strength} has no effect without --init-img")
        if not self.edits:
            found += [
                f"--{name} {value} has no effect without --is-swap"
                for name in _EDIT
                if (value := getattr(self, name)) != getattr(type(self), name)
            ]
        if not self.is_get_attn:
            found += [
                f"--{name} has no effect without --is_get_attn"
                for name in ("save_attn_dir", "every", "half")
                if getattr(self, name) != getattr(type(self), name)
            ]
        if self.invert == "negative-prompt" and self.negative_prompt:
            found.append("--negative_prompt has no effect: the source's takes its place, as asked")
        if self.invert != "none" and self.n_samples > 1:
            found.append(
                f"--n_samples {self.n_samples} draws the same picture {self.n_samples} times: an "
                "inverted picture has one noise"
            )
        return found

    @property
    def fixed_by_task(self) -> Collection[str]:
        """Settings that a model may not choose: edits read plain prompts, and few steps turn."""
        return ("clip_skip",) if self.invert == "none" else ("clip_skip", "sampler")

    def suited(self, kind: ModelKind, named: Collection[str]) -> Self:
        """Return these settings with what depends on the inversion filled in."""
        suited = super().suited(kind, named)
        if self.invert == "none":
            return suited
        values = {"strength": 1.0, "n_samples": 1}
        return replace(suited, **{k: v for k, v in values.items() if k not in named})

    def target_size(
        self,
        own: tuple[int, int],
        model_size: int,  # noqa: ARG002 - as img2img has it
        multiple: int,
    ) -> tuple[int, int] | None:
        """Return the height and width to resize the init image to; None is its own size.

        Raises:
            UserError: The size is too large.
        """
        return size_in_proportion(self.H, self.W, own, multiple)

    def alone(self) -> Self:
        """Return the settings that draw a picture of this run that is no edit, as the source is.

        ``scripts/txt2img.py`` and ``scripts/img2img.py`` draw it too. An inverted one needs the
        source's prompt, under which it was inverted.
        """
        source = None if self.invert == "none" else self.source
        neutral = {name: getattr(type(self), name) for name in _EDIT}
        return replace(self, also=(), sprompt=source, is_swap=False, **neutral)

    def of_target(self, number: int, has: Callable[[str], bool]) -> Self:
        """Return the settings that draw one edited picture of this run.

        Args:
            number: Which of the targets, from 0.
            has: Tells whether its prompt has a word.
        """
        weights = {k: v for k, v in read_weights(self.reweight).items() if has(k)}
        windows = read_windows(self.cross_replace_steps)
        if isinstance(windows, dict):
            # Words without a window of their own, nor a default one, have the whole walk.
            windows = {k: v for k, v in windows.items() if k == DEFAULT or has(k)} or 1.0
        blend = read_blend(self.blend, len(self.targets))
        return replace(
            self,
            prompt=self.targets[number],
            also=(),
            sprompt=self.source,
            is_swap=True,
            reweight=weights_text(weights) or None,
            cross_replace_steps=window_text(windows),
            blend="|".join(",".join(blend[n]) for n in (0, number + 1)) if blend else None,
        )


@dataclass(frozen=True, kw_only=True)
class LowMemorySwapSettings(SmallDevice, SwapSettings):
    """Settings of prompt-to-prompt on small devices.

    A prompt is plain text here: words are edited by where they stand in it, and mixtures of
    several texts have no such places.

    Example:
        >>> settings = LowMemorySwapSettings(sprompt="a cat:2", prompt="a dog:2", is_swap=True)
        >>> settings.mixture(settings.prompt), settings.low_memory
        ([('a dog:2', 1.0)], True)
    """

    prompt: str = changed(SwapSettings, "prompt", help="the edited prompt")
    sprompt: str | None = changed(
        SwapSettings, "sprompt", help="the source prompt, whose picture is edited", shown=None
    )
    n_samples: int = changed(SwapSettings, "n_samples", default=1)
    # As the other programs for small devices do.
    watermark: str = changed(SwapSettings, "watermark", default="gentle")
