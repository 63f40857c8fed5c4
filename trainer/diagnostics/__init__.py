"""Extra series that explain a run."""
