"""Text-to-image by the diffusers library: ``settings``, ``folder`` (its JSON files), ``drawing``.

Not named ``optimizedSD/diffusers``: ``python optimizedSD/x.py`` puts that folder first on
``sys.path``, so that ``import diffusers`` would find this package instead of the library.
"""
