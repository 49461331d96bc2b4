"""Faster arithmetic for the same modules: given to a model for a while, and taken back."""
