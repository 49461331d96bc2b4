"""Neural network modules that models are made of."""
