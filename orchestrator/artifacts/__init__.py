"""The artifact store: where checkpoints lie when ANNEAL_ARTIFACTS_URL names a place that all machines reach.

Knows no Django: server and nodes use it alike.
"""
