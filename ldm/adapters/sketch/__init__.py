"""Sketch-guided diffusion: lines of a drawing lead a walk. arXiv:2211.13752."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)
__all__ = ["EdgePredictor", "new_edge_predictor", "read_edge_predictor", "write_edge_predictor"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EdgePredictor": "ldm.adapters.sketch.predictor",
        "new_edge_predictor": "ldm.adapters.sketch.predictor",
        "read_edge_predictor": "ldm.adapters.sketch.files",
        "write_edge_predictor": "ldm.adapters.sketch.files",
    },
)
