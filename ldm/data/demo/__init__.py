"""The pictures that the bundled model learned from: captioned scenes of emoji."""
