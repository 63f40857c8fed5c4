"""Everything that proves a promise of Anneal."""
