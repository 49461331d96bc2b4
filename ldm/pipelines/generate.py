"""The original import path of ``Pipeline``, kept for compatibility."""

from ldm.pipelines.pipeline import Pipeline, resolve_device

__all__ = ["Pipeline", "resolve_device"]
