"""Which weights are trained."""
