"""Steering by drawings: ControlNet, T2I-Adapter, style adapter, a reference picture."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Control": "ldm.adapters.control.reading",
        "read_control": "ldm.adapters.control.reading",
        "reference_only": "ldm.adapters.control.reference:ReferenceOnly",
    },
)
