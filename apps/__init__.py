"""Applications: what people run for others, made of everything below; nothing imports them."""
