"""Conditioners: texts, classes and pictures to what the UNet attends to."""
