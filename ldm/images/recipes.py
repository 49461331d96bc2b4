"""How a picture was made, as its file says it in the form of this or of another program.

    the file's texts -> one of the forms below -> Recipe with AUTOMATIC1111's names

Read are AUTOMATIC1111's text (also of Forge, stable-diffusion.cpp and others), InvokeAI's
``invokeai_metadata``, ``sd-metadata`` and ``Dream``, NovelAI's comment, Easy Diffusion's single
texts, the JSON that SwarmUI, Fooocus and Draw Things store, and ComfyUI's node graph
(``ldm.images.comfyui``). LoRAs stand in the prompt as tags, as AUTOMATIC1111 has them. What a form
says besides is kept under the name it has there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ldm.budgets import RECIPE_ENTRIES
from ldm.errors import UserError
from ldm.images.brackets import TooNested, read_json
from ldm.images.comfyui import GraphUnclear, values_of_graph
from ldm.images.dream import values_of_command
from ldm.images.embed import TEXT_KEYWORD, is_readable, parameters_in, texts_in_exif
from ldm.images.io import open_image
from ldm.images.metadata import parse_parameters
from ldm.images.recipe_loras import take_loras

# AUTOMATIC1111's names and what other programs call the same.
_NAMES = {
    "Steps": ("steps", "num_inference_steps", "ddim_steps"),
    "CFG scale": ("cfg_scale", "cfg", "cfgscale", "scale", "guidance_scale"),
    "Seed": ("seed", "noise_seed"),
    "Sampler": ("sampler", "sampler_name"),
    "Schedule type": ("scheduler", "noise_schedule"),
    "Model": ("model", "model_weights", "base_model", "use_stable_diffusion_model"),
    "Model hash": ("model_hash", "base_model_hash"),
    "Clip skip": ("clip_skip", "clipskip"),
    "Tiling": ("tiling", "seamless"),
    "VAE": ("vae", "use_vae_model"),
    "Lora hashes": ("loras", "lora", "use_lora_model"),
    "Size": ("size",),
}
_PROMPT = ("positive_prompt", "prompt", "c")
_NEGATIVE = ("negative_prompt", "negativeprompt", "uc")
# AUTOMATIC1111's labels by the names of the k-diffusion library and its users.
_SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm_2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpm_2_a": "DPM2 a",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "lcm": "LCM",
    "deis": "DEIS",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_2m_sde_heun_gpu": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "unipc": "UniPC",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC BH2",
    "restart": "Restart",
    "ddpm": "DDPM",
    "tcd": "TCD",
    "ddim": "DDIM",
    "plms": "PLMS",
    "pndm": "PLMS",
}
# Without effect on the picture, or said by other entries.
_UNSAID = (
    *("app_id", "app_version", "generation_mode", "type", "version", "swarm_version", "profile"),
    *("width", "height", "w", "h", "resolution", "aspectratio", "strength", "creativity", "v2"),
    *("full_prompt", "full_negative_prompt", "request_type", "metadata_scheme", "created_by"),
    *("rand_device", "n_samples", "user", "date", "fooocus_scheme", "model_list", "signed_hash"),
    *("image_model", "num_outputs", "output_format", "postprocessing", "threshold", "perlin"),
)
_NOTHING = (None, "", False, 0, [], {}, "None", "none", "False")


@dataclass(frozen=True)
class Recipe:
    """What a picture's file says about how it was made.

    Attributes:
        prompt: The prompt.
        negative_prompt: The negative prompt, "" for none.
        entries: Settings as text, under AUTOMATIC1111's names where it has them.
        program: The program whose form it is; empty for AUTOMATIC1111's text.
    """

    prompt: str
    negative_prompt: str
    entries: dict[str, str] = field(default_factory=dict)
    program: str = ""


def read_recipe(path: str | Path) -> Recipe | None:
    """Read how a picture was made; None if its file does not say.

    Raises:
        UserError: There is no such file, it is not a picture, it holds another program's settings
            that are not understood, or more settings than a recipe has.
    """
    return recipe_in(open_image(path), path)


def recipe_in(image: Image.Image, path: str | Path = "the picture") -> Recipe | None:
    """Read how an opened picture was made; None if it does not say.

    Args:
        image: The picture, loaded.
        path: What messages call it.

    Raises:
        UserError: As ``read_recipe``.
    """
    recipe = _of_image(image, path)
    count = 0 if recipe is None else len(recipe.entries)
    if count > RECIPE_ENTRIES:
        raise UserError(
            f"image {path} holds {count} settings; expected at most {RECIPE_ENTRIES}; "
            "give --prompt, --seed and the other flags by hand"
        )
    return recipe


def _of_image(image: Image.Image, path: str | Path) -> Recipe | None:
    text = parameters_in(image, path)
    plain = None if text is None else Recipe(*parse_parameters(text))
    if plain is not None and "Seed" in plain.entries:
        return plain
    texts = {
        key: str(each)
        for key, each in image.info.items()
        if isinstance(each, str) and key != TEXT_KEYWORD and is_readable(each, key, path)
    }
    texts |= texts_in_exif(image, path)
    if text is not None and text.lstrip().startswith("{"):
        texts["json"] = text
    for program, (key, read) in _FORMS.items():
        if key in texts:
            try:
                values = read(texts)
                if values is not None:
                    return _recipe(values, program, image.size)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise _unclear(path, program, error) from error
    return plain


def _unclear(path: str | Path, program: str, error: Exception) -> UserError:
    why = f": {error}" if isinstance(error, GraphUnclear | TooNested) else ""
    return UserError(
        f"image {path} holds settings of {program} that are not understood here{why}; expected "
        "one prompt, one seed and one sampler; give --prompt, --seed and the other flags by hand"
    )


def _recipe(values: Mapping[str, Any], program: str, size: tuple[int, int]) -> Recipe:
    """Return a recipe under AUTOMATIC1111's names.

    Args:
        values: Settings under the program's own names.
        program: The program.
        size: Width and height of the picture, for programs that do not record them.
    """
    left = {key.lower(): value for key, value in values.items()}
    loras = take_loras(left)
    if left.get("scheduler") and not any(left.get(name) for name in _NAMES["Sampler"]):
        left["sampler"] = left.pop("scheduler")  # diffusers calls samplers schedulers
    prompt, negative = _first(left, _PROMPT), _first(left, _NEGATIVE)
    entries = {key: _first(left, names) for key, names in _NAMES.items()}
    entries["Size"] = entries["Size"] or _size(left, size)
    entries["Denoising strength"] = _strength(left)
    entries |= {key: value for key, value in left.items() if key not in _UNSAID}
    told = {key: _written(value) for key, value in entries.items() if value not in _NOTHING}
    if "Seed" not in told and entries["Seed"] == 0:
        told["Seed"] = "0"
    _name_sampler(told)
    prompt = " ".join(filter(None, (_as_prompt(prompt), *loras)))
    return Recipe(prompt, _as_prompt(negative), told, program)


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Take the values of these names out, and return the first that there is."""
    found = [values.pop(name) for name in names if name in values]
    return next((each for each in found if each is not None), None)


def _as_prompt(prompt: Any) -> str:
    """Return a prompt as one text; InvokeAI once stored a list of weighted parts."""
    if isinstance(prompt, list):
        return " ".join(part["prompt"] if isinstance(part, dict) else str(part) for part in prompt)
    return "" if prompt is None else str(prompt)


def _size(values: Mapping[str, Any], own: tuple[int, int]) -> str:
    sides = [values.get("width", values.get("w")), values.get("height", values.get("h"))]
    if None in sides:
        sides = re.findall(r"\d+", str(values.get("resolution", ""))) or list(own)
    return f"{sides[0]}x{sides[1]}"


def _strength(values: Mapping[str, Any]) -> Any:
    """Return the strength of image-to-image; some programs note one for text-to-image too."""
    mode = " ".join(str(values.get(key, "")) for key in ("generation_mode", "type", "request_type"))
    if "img2img" in mode.lower():
        return values.get("strength", values.get("creativity"))
    return None


def _written(value: Any) -> str:
    if isinstance(value, dict):
        name = value.get("model_name") or value.get("name")
        return str(name) if name else json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value)


def _name_sampler(entries: dict[str, str]) -> None:
    """Give sampler and schedule AUTOMATIC1111's names."""
    name = re.sub(r"^(sample_)?k_", "", entries.get("Sampler", "").lower()).replace(" ", "_")
    plain = re.sub(r"_(k|karras)$", "", name)
    if plain != name:
        entries.setdefault("Schedule type", "Karras")
    if plain in _SAMPLERS:
        entries["Sampler"] = _SAMPLERS[plain]
    # ComfyUI's "normal" is k-diffusion's own schedule, and NovelAI's "native" too.
    if entries.get("Schedule type") in ("normal", "ddim_uniform", "native"):
        del entries["Schedule type"]


def _json(text: str) -> dict[str, Any]:
    values = read_json(text)
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values


def _parameters(texts: Mapping[str, str]) -> dict[str, Any]:
    values = _json(texts["json"])
    return values.get("sui_image_params", values)


def _invokeai(texts: Mapping[str, str]) -> dict[str, Any]:
    values = _json(texts["invokeai_metadata"])
    skipped = values.get("clip_skip")  # AUTOMATIC1111 counts the layer that is used
    return {**values, "clip_skip": skipped + 1} if skipped else values


def _sd_metadata(texts: Mapping[str, str]) -> dict[str, Any]:
    values = _json(texts["sd-metadata"])
    image = values.pop("image")
    return {**values, "model": values.get("model_weights"), **image}


def _dream(texts: Mapping[str, str]) -> dict[str, Any]:
    return values_of_command(texts["Dream"])


def _novelai(texts: Mapping[str, str]) -> dict[str, Any] | None:
    if "NovelAI" not in texts.get("Software", ""):
        return None  # anybody may write a comment
    values = _json(texts["Comment"])
    # Settings of later models stand beside these, and nest deeper.
    known = ("steps", "scale", "seed", "sampler", "uc", "width", "height", "noise_schedule")
    kept = {key: values[key] for key in (*known, "strength", "request_type") if key in values}
    return {"prompt": texts.get("Description", values.get("prompt")), **kept}


def _single_texts(texts: Mapping[str, str]) -> dict[str, Any] | None:
    if "num_inference_steps" not in texts:
        return None
    return {key: value for key, value in texts.items() if key != "XML:com.adobe.xmp"}


def _graph(texts: Mapping[str, str]) -> dict[str, Any] | None:
    if not texts["prompt"].lstrip().startswith("{"):
        return None  # any other program's prompt
    return values_of_graph(_json(texts["prompt"]))


def _workflow(texts: Mapping[str, str]) -> dict[str, Any] | None:
    from ldm.images.comfyui_workflow import graph_of_workflow  # few pictures lack the graph

    workflow = _json(texts["workflow"])
    return values_of_graph(graph_of_workflow(workflow)) if workflow.get("nodes") else None


# In this order: each with the text that it is recognised by.
_FORMS: dict[str, tuple[str, Callable[[Mapping[str, str]], dict[str, Any] | None]]] = {
    "a program that stores JSON": ("json", _parameters),
    "InvokeAI": ("invokeai_metadata", _invokeai),
    "InvokeAI 2": ("sd-metadata", _sd_metadata),
    "InvokeAI 1": ("Dream", _dream),
    "NovelAI": ("Comment", _novelai),
    "Easy Diffusion": ("prompt", _single_texts),
    "ComfyUI": ("prompt", _graph),
    "ComfyUI's editor": ("workflow", _workflow),
}
