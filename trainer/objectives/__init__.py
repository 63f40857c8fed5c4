"""Losses: what the gradient is taken of."""
