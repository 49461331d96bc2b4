"""Read a ComfyUI node graph that draws one picture in one walk.

A picture of ComfyUI stores the graph that drew it: nodes by their ids, each with its
``class_type`` and ``inputs``; an input is a value, or ``[id, output]`` of another node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldm.legible import quoted

_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_EMPTY, _TEXT, _SKIP = "EmptyLatentImage", "CLIPTextEncode", "CLIPSetLastLayer"
_LOADERS = ("CheckpointLoaderSimple", "CheckpointLoader")
# What a graph without extras is made of; other nodes are told by name.
_PLAIN = (*_SAMPLERS, *_LOADERS, _EMPTY, _TEXT, _SKIP, "VAEDecode", "SaveImage", "PreviewImage")


class GraphUnclear(ValueError):
    """The graph does not say which settings drew the picture."""


def values_of_graph(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a graph under ComfyUI's names.

    Args:
        graph: ``{id: {"class_type": ..., "inputs": {...}}}``.

    Raises:
        GraphUnclear: It has no sampler or several, or a setting comes out of a node of its own.
    """
    samplers = [node for node in graph.values() if node["class_type"] in _SAMPLERS]
    if len(samplers) != 1:
        raise GraphUnclear(f"its graph has {len(samplers)} KSampler nodes")
    inputs = samplers[0]["inputs"]
    settings = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler")
    values = {key: _value(inputs, key) for key in settings if key in inputs}
    values["prompt"] = _text(graph, inputs["positive"])
    values["negative_prompt"] = _text(graph, inputs["negative"])
    values |= _picture(graph, inputs)
    values["model"] = _checkpoint(graph)
    layers = [n["inputs"] for n in graph.values() if n["class_type"] == _SKIP]
    if layers:
        values["clip_skip"] = -_value(layers[0], "stop_at_clip_layer")
    others = {n["class_type"] for n in graph.values()} - {*_PLAIN}
    if others:
        values["nodes"] = ", ".join(sorted(others))
    return values


def _value(inputs: Mapping[str, Any], key: str) -> Any:
    value = inputs[key]
    if isinstance(value, list):
        raise GraphUnclear(f"its {key} comes out of a node")
    return value


def _text(graph: Mapping[str, Any], link: Any) -> str:
    node = graph[link[0]]
    if node["class_type"] != _TEXT:
        raise GraphUnclear(f"a prompt comes out of a {quoted(node['class_type'])} node")
    return _value(node["inputs"], "text")


def _picture(graph: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the walk starts from: an empty latent of a size, or a picture."""
    node = graph[inputs["latent_image"][0]]
    denoise = _value(inputs, "denoise") if "denoise" in inputs else 1
    if node["class_type"] == _EMPTY:
        sides = {side: _value(node["inputs"], side) for side in ("width", "height")}
        return sides if denoise == 1 else {**sides, "denoise": denoise}
    return {"type": "img2img", "strength": denoise}


def _checkpoint(graph: Mapping[str, Any]) -> str | None:
    loaders = [node for node in graph.values() if node["class_type"] in _LOADERS]
    return _value(loaders[0]["inputs"], "ckpt_name") if len(loaders) == 1 else None
