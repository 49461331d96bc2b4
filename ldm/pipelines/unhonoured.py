"""What a recorded picture asks for that is not done here, by name. Imports no torch.

The rule: an entry is used, or is without effect on the picture, or is named in one notice. Entries
that are in none of the tables below are named as not known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ldm.legible import quoted
from ldm.settings.tags import without_loras

if TYPE_CHECKING:
    from ldm.images.recipes import Recipe
    from ldm.settings.generation import GenerationSettings

# Without effect on the picture, or said elsewhere: the hash of the model is compared with the
# loaded one's, and templates are what the prompt was made from.
_SILENT = re.compile(
    "Version|Model|Model hash|Hashes|Batch size|Batch pos|User|Created Date|Software|Script|"
    "(Negative )?Template|(Negative )?Wildcard.*|Device|Iteration|Picture|Pictures per iteration|"
    "Prompt weights|Sampler form|Init image|Init image hash|Mask|Mask hash|Tile control|"
    "Tile control hash|Decoder|Decoder hash|Face (restorer|detector)( hash)?|Time taken|SDCPP|"
    "RNG seed|(Hires|SD upscale) upscaler hash|Original (negative |source )?prompt"
)
# What changes the picture, and the values at which it does not; "" is none.
_CHANGES = {
    "Clip skip": "1|0",
    "ENSD": "0",
    "Eta noise seed delta": "0",
    "Eta": r"0(\.0+)?",
    "Variation seed": "",
    "Variation seed strength": r"0(\.0+)?",
    "Seed resize from": "(-1x-1|0x0|-1|0)",
    "Face restoration": "None|False",
    "Tiling": "False|false",
    "Noise [Ss]chedule": "Default",
    "RNG": "",
    "Token merging.*": r"0(\.0+)?",
    "Refiner.*": "None",
    "Hires.*|First pass size|Denoising strength|Postprocess.*|SD upscale.*": "None",
    "Mask blur|Masked content|Mask mode|Inpaint area|Masked area padding": "Whole picture",
    "Conditional mask weight": r"1(\.0+)?",
    "Image CFG scale|NGMS|Sigma .*|Schedule .*|SGM noise multiplier|Extra noise|Rescale CFG": "",
    "Discard penultimate sigma|Pad conds.*|Downcast alphas_cumprod|Emphasis|Beta schedule": (
        "False|Original"
    ),
    "ControlNet.*|AddNet.*|ADetailer.*|FreeU.*|Dynamic thresholding.*|Regional Prompter.*": "",
    "Lora hashes|TI hashes|TI|Hypernet.*|VAE|VAE hash|VAE Decoder|VAE Encoder": "None|Automatic",
    "Size": "",
    "nodes|denoise|controlnets|ipAdapters|t2iAdapters|init_image|variations|hires_fix": "",
}
_TABLE = [(re.compile(names), re.compile(values)) for names, values in _CHANGES.items()]
# AUTOMATIC1111's prompt syntax, which is plain text here: (cat:1.2), <lora:name:1>, BREAK.
_SYNTAX = re.compile(r"<\w+:[^<>]+>|\([^()]+:\s*(?:\d+(?:\.\d+)?|\.\d+)\s*\)|\bBREAK\b")
_LONGEST = 40  # letters of a name or a value that are shown
_MOST = 20  # names that are shown


def unhonoured(path: str, entries: Mapping[str, str], used: Collection[str]) -> str | None:
    """Return the notice that names what is not done; None if all is.

    Args:
        path: The picture, as the user gave it.
        entries: What its parameters say.
        used: Names of entries that are used.
    """
    left = {key: value for key, value in entries.items() if key not in used}
    left = {key: value for key, value in left.items() if not _SILENT.fullmatch(key)}
    if left.get("Variation seed") and _is_neutral("Variation seed strength", left):
        left.pop("Variation seed")
    changing, others = [], []
    for key in left:
        if _neutral_values(key) is None:
            others.append(key)
        elif not _is_neutral(key, left):
            changing.append(key)
    said = []
    if changing:
        said.append(f"change the picture and are not done here: {_listed(changing, left)}")
    if others:
        said.append(f"are not known here and not used: {_listed(others, left)}")
    return f"{path} records settings that {'; others '.join(said)}" if said else None


def syntax_of(recipe: Recipe, given: Collection[str]) -> str:
    """Return the syntax of the prompts of a picture that another program made.

    Args:
        recipe: What its file says.
        given: Names of settings that the user overrides.
    """
    from ldm.prompts.looks import compel_parts, may_be_a1111

    texts = _taken(recipe, given)
    if recipe.program == "" and any(map(may_be_a1111, texts)):
        return "a1111"
    if recipe.program == "InvokeAI" and any(next(compel_parts(text), None) for text in texts):
        return "compel"
    return "compvis"


def _taken(recipe: Recipe, given: Collection[str]) -> list[str]:
    """Return the prompts that are taken from a picture."""
    names = {"prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt}
    return [text for name, text in names.items() if name not in given]


def notices_on_others(
    path: str,
    recipe: Recipe,
    given: Collection[str],
    *,
    plain: bool = True,
    tags: bool = False,
) -> Iterator[str]:
    """Yield what is to be expected of a picture that another program made.

    Args:
        path: The picture, as the user gave it.
        recipe: What its file says.
        given: Names of settings that the user overrides.
        plain: Whether the prompts are read as plain text.
        tags: Whether tags of LoRAs in them are read all the same.
    """
    program = recipe.program or "another program"
    yield f"{path} was made by {program}: expect a similar picture, not the same one"
    texts = _taken(recipe, given)
    syntax = plain_syntax(map(without_loras, texts) if tags else texts) if plain else ()
    if parts := ", ".join(map(quoted, islice(syntax, _MOST))):
        yield f"these parts of the prompt are plain text here, not weights or models: {parts}"


def plain_syntax(prompts: Iterable[str]) -> Iterator[str]:
    """Yield the parts of prompts that only other programs read as more than text."""
    for prompt in prompts:
        yield from dict.fromkeys(match[0] for match in _SYNTAX.finditer(prompt))


def _neutral_values(key: str) -> re.Pattern | None:
    return next((values for names, values in _TABLE if names.fullmatch(key)), None)


def _is_neutral(key: str, entries: Mapping[str, str]) -> bool:
    values = _neutral_values(key)
    return key not in entries or (values is not None and bool(values.fullmatch(entries[key])))


def _listed(keys: Sequence[str], entries: Mapping[str, str]) -> str:
    more = [f"{len(keys) - _MOST} more"] if len(keys) > _MOST else []
    named = [f"{_short(key)} {_short(entries[key])}".rstrip() for key in keys[:_MOST]]
    return ", ".join(named + more)


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def take_mixture(
    path: str,
    schema: type[GenerationSettings],
    mixed: bool,
    given: Collection[str],
    values: dict[str, Any],
) -> list[str]:
    """Put into ``values`` whether the prompt is a mixture; return notices where none can be.

    Args:
        path: The picture.
        schema: What it is redrawn by.
        mixed: Whether its prompt is one.
        given: Settings that the user gave.
        values: The settings that the picture records.
    """
    from ldm.settings.low_memory import WeightedPrompts

    if issubclass(schema, WeightedPrompts):
        values |= {} if "prompt" in given else {"plain_prompt": not mixed}
        return []
    text = (
        f"{path} was drawn from a mixture of weighted prompts; here its prompt is plain text, "
        "which gives a different picture; "
        f"optimizedSD/optimized_{schema.program}.py draws the mixture"
    )
    return [text] if mixed else []
