"""Names that a module offers and another one holds, imported when somebody first asks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    module: str, addresses: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a module that offers names of other modules.

    They are imported when somebody first asks: a text-to-image run needs one conditioner of ten.

    Args:
        module: The module's ``__name__``.
        addresses: Name -> the module it lies in, or ``module:name`` where it has another name
            there; ``module:`` is that module itself.
    """

    def __getattr__(name: str) -> Any:
        if name not in addresses:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        address, colon, there = addresses[name].partition(":")
        found = importlib.import_module(address)
        if there or not colon:
            found = getattr(found, there or name)
        vars(sys.modules[module])[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *addresses})

    return __getattr__, __dir__
