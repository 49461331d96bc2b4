"""What can be chosen, and how each setting looks to a user. Imports no torch."""
