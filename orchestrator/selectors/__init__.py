"""Reads: what pages, the API and consumers show."""
