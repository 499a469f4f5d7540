"""Sequences: what they are, where they come from, how they are split, cut into windows and batched."""
