"""Diffusers folders: translation to our names and configurations, and back."""
