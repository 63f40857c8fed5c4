"""The web application: launches, watches and compares post-training runs."""
