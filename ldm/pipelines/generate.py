"""The address that ``Pipeline`` had first, kept for those who import it from here."""

from ldm.pipelines.pipeline import Pipeline, resolve_device

__all__ = ["Pipeline", "resolve_device"]
