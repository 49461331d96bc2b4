"""Training any model of the package with Lightning."""
