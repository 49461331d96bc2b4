"""The posterior of the first stage."""
