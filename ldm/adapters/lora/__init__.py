"""LoRA and its relatives: small changes of a model's weights, of every dialect people have."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)
_PACKAGE = "ldm.adapters.lora"
_NAMES = {
    "LoRA": f"{_PACKAGE}.read",
    "LoRAHandle": f"{_PACKAGE}.attached",
    "TrainableLoRA": f"{_PACKAGE}.train",
    "new_lora": f"{_PACKAGE}.train",
    "read_lora": f"{_PACKAGE}.read",
    "write_lora": f"{_PACKAGE}.write",
}
__all__ = [*_NAMES]
__getattr__, __dir__ = lazy_exports(__name__, _NAMES)
