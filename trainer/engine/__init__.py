"""Everything that touches tensors: the only place with module-level torch and transformers imports."""
