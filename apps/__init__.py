"""Applications: what people run for others, made of the programs and the library below them."""
