"""Published weights: where they are, how they are fetched, where the hub's cache keeps them."""
