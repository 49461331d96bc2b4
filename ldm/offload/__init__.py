"""Low memory: a plan that says which stage of a model is on the device, and when."""
