"""How the learning rate moves over the run."""
