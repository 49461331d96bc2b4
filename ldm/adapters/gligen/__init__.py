"""GLIGEN: texts in boxes say where things are. arXiv:2301.07093."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)
__all__ = ["Gligen", "new_gligen", "read_gligen", "write_gligen"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Gligen": "ldm.adapters.gligen.adapter",
        "new_gligen": "ldm.adapters.gligen.adapter",
        "read_gligen": "ldm.adapters.gligen.files",
        "write_gligen": "ldm.adapters.gligen.files",
    },
)
