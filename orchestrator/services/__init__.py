"""Writes: every change of the database goes through here."""
