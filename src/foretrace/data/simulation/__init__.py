"""Simulated robots as a source of sequences."""
