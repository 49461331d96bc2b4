"""Picture files: reading, writing, padding, grids, and the settings stored inside."""
