"""Weights on disk: reading them safely, fitting them to models, writing them whole."""
