"""The settings stored in a picture's file, in the format that other tools read.

Any reader of the format understands them, and the identical picture can be redrawn from them.
The keys are AUTOMATIC1111's where it has one. The others hold what bit-identity needs: the seed
mode, the picture's place in its run, the device and precision, and for image-to-image the init
image. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.images.metadata import format_parameters
from ldm.legible import quoted
from ldm.pipelines.batches import Place
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.models import Fingerprint
from ldm.pipelines.original_prompts import original_entries, recorded_language
from ldm.settings.faces import RESTORATION, RESTORER
from ldm.settings.generation import LONGEST_RUN, MAX_SEED, GenerationSettings
from ldm.settings.hires import HIRES, upscaler_label
from ldm.settings.option import Option, options_of
from ldm.settings.samplers import FORM, SAMPLERS, SPACINGS, samplers_for
from ldm.settings.shortcuts import UNSHORTENED

if TYPE_CHECKING:  # most pictures have none
    from ldm.images.recipes import Recipe
    from ldm.pipelines.adapter_entries import Recall
    from ldm.pipelines.adapter_plan import AdapterPlan

# The order of AUTOMATIC1111's text; further keys follow.
ORDER = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model")

ADAPTERS = frozenset({"Lora hashes", "TI hashes", "LoRA", "Embedding", "Control"})
WEIGHTS = "Prompt weights"  # "on" where the prompt is a mixture, see ldm.settings.prompt_weights
# Settings that are written only if they are not these: the usual ones, and those of pictures from
# before there was a choice.
_QUIET = {
    "ddim_eta": 0,
    "fixed_code": False,
    "use_ema": False,
    "prompt_syntax": "compvis",
    "clip_skip": 1,
    "emphasis": "original",
    "use_neighbors": False,
    "invert_mask": False,
    "subseed_strength": 0,
    "watermark": "reference",
    "upscaler": "lanczos",
    **UNSHORTENED,
}
_PLACE = {
    "Batch size": "n_samples",
    "Iteration": "iteration",
    "Picture": "position",
    "Pictures per iteration": "per_iteration",
}
DEFAULTS = GenerationSettings()
_COUNTED_FROM_1 = ("iteration", "position")


@dataclass(frozen=True)
class Source:
    """What a picture was made from, besides its settings.

    Attributes:
        model: Name of the model.
        fingerprint: The checkpoint's hash.
        device: Device type, such as ``cuda``: random generators differ between devices.
        size: Height and width in pixels; those of the first walk where there are two.
        init_image: The init image of image-to-image.
        adapters: What acted on the model besides.
        further: Entries about what was done to the pictures after they were drawn.
        shown: Height and width of the finished picture; None is ``size``.
    """

    model: str
    fingerprint: Fingerprint
    device: str
    size: tuple[int, int]
    init_image: InitImage | None = None
    adapters: AdapterPlan | None = None
    further: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[int, int] | None = None


def write_parameters(settings: GenerationSettings, source: Source, place: Place) -> str:
    """Return the text to store with a picture.

    Args:
        settings: Those of the run, with the picture's own prompt and seed.
        source: What else the picture depends on.
        place: Where in its run the picture was drawn.
    """
    height, width = source.size
    entries: dict[str, Any] = {
        "Size": f"{width}x{height}",
        "Model hash": source.fingerprint.short,
        "Model": source.model,
        "Device": source.device,
    }
    unrecorded = settings.unrecorded
    for each in options_of(settings):
        value = getattr(settings, each.name)
        unsaid = each.name in unrecorded or (each.name in _QUIET and value == _QUIET[each.name])
        if each.infotext and value is not None and not unsaid:
            entries[each.infotext] = _written(each, value)
    for key, name in _PLACE.items():
        entries[key] = getattr(place, name) + (name in _COUNTED_FROM_1)
    if source.init_image is not None:
        from ldm.pipelines.source_files import image_entries  # pictures from text need none

        entries |= image_entries(source.init_image)
    if form := SAMPLERS[settings.sampler].form:
        entries[FORM] = form
    entries |= {key: value for key, value in settings.further_entries().items() if value}
    if any(len(settings.mixture(text)) > 1 for text in (settings.prompt, settings.negative_prompt)):
        entries[WEIGHTS] = "on"
    entries |= original_entries(settings)
    if getattr(settings, "hires_network", None) or getattr(settings, "network", None):
        from ldm.pipelines.recorded_values import network_entries

        entries |= network_entries(settings)
    if settings.decoder is not None:
        from ldm.pipelines.source_files import decoder_entries

        entries |= decoder_entries(settings.decoder)
    if source.adapters is not None:
        from ldm.pipelines.adapter_entries import entries_of

        entries |= entries_of(source.adapters, settings.prompt, settings.negative_prompt)
    entries |= source.further
    ordered = {key: entries.pop(key) for key in ORDER} | entries
    return format_parameters(settings.prompt, settings.negative_prompt, ordered)


def _written(each: Option, value: Any) -> str:
    if each.name == "sampler":
        return SAMPLERS[value].label
    if each.name == "spacing":
        return SPACINGS[value].label or value
    if each.name in ("hires_upscaler", "upscaler"):
        return upscaler_label(value)
    if each.name == "emphasis":
        return value.replace("-", " ").capitalize()
    if each.kind is float:
        return repr(float(value)).removesuffix(".0")
    return str(value)


@dataclass(frozen=True)
class Recorded:
    """What a picture's file says about how it was made.

    Attributes:
        values: Settings by field name.
        place: Where in its run it was drawn; None for pictures of other programs.
        device: Type of the device that it was drawn on, if recorded.
        model_hash: Hash of its checkpoint, if recorded.
        model: Name of its model, if recorded.
        notices: Messages about settings that could not be restored.
    """

    values: dict[str, Any]
    place: Place | None = None
    device: str | None = None
    model_hash: str | None = None
    model: str | None = None
    notices: list[str] = field(default_factory=list)

    def rerun(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], Place | None]:
        """Return the settings that redraw the picture, and its place in the run.

        Args:
            given: Settings that the user overrides. A new batch layout, or more prompts, start an
                ordinary run: the place is then None.
        """
        values, place = {**self.values, **given}, self.place
        if place is None:
            return {"n_samples": 1, "n_iter": 1, **values}, None
        if {"n_samples", "n_iter", "from_file", "also"} & given.keys():
            return {"n_samples": place.n_samples, **values}, None
        own = {}
        if self.values.get("subseed_strength") and "subseed" not in given:
            own = {"subseed": values["subseed"] - place.index}
        if self.values.get("seed_mode") != "per-image":
            return {**values, **own}, place
        if {"seed", "seed_mode", "subseed", "subseed_strength"} & given.keys():
            return {"n_samples": 1, "n_iter": 1, **values}, None
        # The picture's own seed was stored; the run's is lower by the number of pictures before it.
        return {**values, **(own or {"seed": values["seed"] - place.index})}, place


def read_picture(
    path: str,
    schema: type[GenerationSettings],
    given: Collection[str] = (),
    recipe: Recipe | None = None,
) -> Recorded:
    """Read how a picture was made.

    Args:
        path: A picture file.
        schema: The settings class to read into.
        given: Names of settings that the user overrides: they need not be in the picture.
        recipe: What its file says, if it was read before.

    Raises:
        UserError: the file is not a picture, has no parameters, was made by a different program,
            or its init image is missing or has changed.
    """
    from ldm.pipelines.made_by import check_program, with_schedule  # only redrawing needs these
    from ldm.pipelines.recorded_values import changed_networks
    from ldm.pipelines.source_files import find_sources
    from ldm.pipelines.unhonoured import notices_on_others, syntax_of, take_mixture

    recipe = recipe or _recipe_in(path)
    entries = with_schedule(recipe.entries)
    check_program(path, schema, entries, given)
    place = _read_place(entries)
    syntax = entries.get("Prompt syntax", "") if place else syntax_of(recipe, given)
    recalled = _recalled(path, schema, entries, recipe.prompt, given, syntax, own=place is not None)
    entries = {k: v for k, v in entries.items() if recalled is None or k not in recalled.used}
    values, notices = _read_settings(path, schema, entries, given, own=place is not None)
    values |= {"prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt}
    if recalled is not None:
        values |= {**recalled.values, "prompt": recalled.prompt}
        notices += recalled.notices
    values |= recorded_language(entries, values, given)
    notices += take_mixture(path, schema, WEIGHTS in entries, given, values)
    if place is None:
        if schema.task != "edit" and "prompt_syntax" not in {*given, *values}:
            values["prompt_syntax"] = syntax
        plain = "prompt_syntax" not in given and values.get("prompt_syntax") in (None, "compvis")
        notices += notices_on_others(path, recipe, given, plain=plain, tags=schema.takes_tags)
    values |= find_sources(path, schema, entries, given)
    read = {name: value for name, value in values.items() if name not in given}
    notices += changed_networks(path, entries, read)
    return Recorded(
        values=values,
        place=place,
        device=entries.get("Device"),
        model_hash=entries.get("Model hash"),
        model=entries.get("Model"),
        notices=notices,
    )


def _recipe_in(path: str) -> Recipe:
    from ldm.images.recipes import read_recipe

    recipe = read_recipe(path)
    if recipe is None:
        raise UserError(
            f"--from-image {path} holds no generation parameters; expected a single picture as "
            "saved by these scripts (grids have none); give another one"
        )
    return recipe


def _recalled(
    path: str,
    schema: type[GenerationSettings],
    entries: Mapping[str, str],
    prompt: str,
    given: Collection[str],
    syntax: str,
    *,
    own: bool,
) -> Recall | None:
    """Return the adapters that a picture was drawn with; None if it records none."""
    named = "<" in prompt or (syntax == "compel" and "Lora" in prompt)
    if not ADAPTERS & entries.keys() and not (named and schema.takes_tags):
        return None
    from ldm.pipelines.adapter_entries import recall

    return recall(path, schema, entries, prompt, given, own=own, syntax=syntax)


def _read_settings(
    path: str,
    schema: type[GenerationSettings],
    entries: Mapping[str, str],
    given: Collection[str],
    *,
    own: bool,
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that entries record, and notices about those that they cannot.

    Args:
        path: The picture.
        schema: The settings class to read into.
        entries: What the picture's parameters say.
        given: Names of settings that the user overrides.
        own: Whether this project drew the picture.
    """
    # Pictures from before there was a choice are marked as the reference's are.
    values: dict[str, Any] = {"watermark": _QUIET["watermark"]} if own else {}
    notices: list[str] = []
    unread = _unread(schema, entries)
    options = {
        each.infotext: each
        for each in options_of(schema)
        if each.infotext in entries and each.name not in unread
    }
    for each in options.values():
        _take(each, entries, values, notices if each.name not in given else [])
    if "seed" not in values and "seed" not in given:
        raise UserError(
            f"--from-image {path} records the seed {quoted(entries['Seed'])}; expected a whole "
            f"number from 0 to {MAX_SEED}; add --seed"
        )
    if not {"sampler", "spacing"} & set(given):
        _drop_unfit_spacing(values, notices)
    if not own and SAMPLERS[values.get("sampler", DEFAULTS.sampler)].eta != "used":
        values.pop("ddim_eta", None)
        options.pop("Eta", None)  # other programs give it to other samplers too
    size = _read_size(schema, entries)
    # A picture of ours has the size of its init image, which is no setting.
    used = {*options, *(("Size",) if size or (own and not hasattr(schema, "H")) else ())}
    used |= {"Inpaint area"} if "only_masked" in values else set()
    if RESTORER in entries:
        used.add(RESTORATION)  # said by the file; of other programs it is a name alone
    from ldm.pipelines.unhonoured import unhonoured

    left = unhonoured(path, entries, used)
    return values | size, notices + ([left] if left else [])


def _unread(schema: type[GenerationSettings], entries: Mapping[str, str]) -> Collection[str]:
    """Return settings that are not taken from a picture, though it may have an entry for them."""
    once = () if "Hires upscale" in entries else HIRES  # some give the second size in another way
    if schema.task == "edit":
        return ("prompt_syntax", "clip_skip", "emphasis", *once)  # edits read plain prompts
    return ("clip_skip", *once) if entries.get("Clip skip") == "0" else once  # how some write 1


def _take(
    each: Option, entries: Mapping[str, str], values: dict[str, Any], notices: list[str]
) -> None:
    """Put one entry into ``values``, or say why not: other programs have other samplers."""
    from ldm.pipelines.recorded_values import read_value

    text = entries[each.infotext]
    try:
        value = read_value(each, entries, own=_PLACE.keys() <= entries.keys())
    except (ValueError, KeyError):  # UserError is a ValueError
        notices.append(f"{each.infotext} {quoted(text)} is unknown here: the default is used")
    else:
        values[each.name] = value


def _drop_unfit_spacing(values: dict[str, Any], notices: list[str]) -> None:
    """Drop a spacing that the sampler does not support here: other programs mix freely."""
    sampler, spacing = (values.get(n, getattr(DEFAULTS, n)) for n in ("sampler", "spacing"))
    if sampler not in samplers_for(spacing):
        del values["spacing"]
        label = SPACINGS[spacing].label or spacing
        notices.append(f"Schedule type {label!r} does not apply to {sampler}: the default is used")


def _read_size(schema: type[GenerationSettings], entries: Mapping[str, str]) -> dict[str, int]:
    """Return the recorded height and width, if they are settings here."""
    names = {each.name for each in options_of(schema)}
    width, _, height = entries.get("Size", "").partition("x")
    sides = [_whole(height), _whole(width)]
    fits = min(sides) > 0
    return dict(zip("HW", sides, strict=True)) if {*"HW"} <= names and fits else {}


def _whole(text: str) -> int:
    """Read a whole number that a picture records; -1 if it is none, or beyond all that is one."""
    return int(text) if text.isdecimal() and len(text) <= len(str(MAX_SEED)) else -1


def _read_place(entries: Mapping[str, str]) -> Place | None:
    numbers = {}
    for key, name in _PLACE.items():
        number = _whole(entries.get(key, "")) - (name in _COUNTED_FROM_1)
        if number < (name not in _COUNTED_FROM_1):
            return None
        numbers[name] = number
    place = Place(**numbers)
    # A damaged file must not keep the program busy for hours.
    planned = max((place.iteration + 1) * place.per_iteration, place.n_samples)
    return place if place.position < place.per_iteration and planned <= LONGEST_RUN else None
