"""Websockets: nodes push journals, browsers follow runs."""
