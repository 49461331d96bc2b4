"""Data sets that configurations name, and what they read with."""
