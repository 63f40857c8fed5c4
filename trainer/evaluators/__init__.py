"""Measurements beside the reward, taken at evaluation."""
