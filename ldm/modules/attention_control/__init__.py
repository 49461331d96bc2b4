"""Attention control: see what each word looks at, and edit a picture by editing its prompt."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)
_PACKAGE = "ldm.modules.attention_control"
_NAMES = {
    "AttendAndExcite": f"{_PACKAGE}.attend_and_excite",
    "Auto": f"{_PACKAGE}.auto",
    "AttentionStore": f"{_PACKAGE}.store",
    "Chain": f"{_PACKAGE}.chain",
    "Controller": f"{_PACKAGE}.controller",
    "HeatMaps": f"{_PACKAGE}.daam",
    "LocalBlend": f"{_PACKAGE}.local_blend",
    "PerturbedAttention": f"{_PACKAGE}.perturbed",
    "PerturbedGuidance": f"{_PACKAGE}.perturbed",
    "Refine": f"{_PACKAGE}.refine",
    "Replace": f"{_PACKAGE}.replace",
    "Reweight": f"{_PACKAGE}.reweight",
    "Row": f"{_PACKAGE}.moments",
    "Site": f"{_PACKAGE}.sites",
    "Moment": f"{_PACKAGE}.moments",
    "control_attention": f"{_PACKAGE}.seam",
    "read_prompt": f"{_PACKAGE}.words",
}
__all__ = [*_NAMES]
__getattr__, __dir__ = lazy_exports(__name__, _NAMES)
