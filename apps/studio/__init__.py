"""Placeholder until the skeleton is merged."""
