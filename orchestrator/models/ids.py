"""Public ids: 12 lower-case base32 characters, 60 random bits."""

import base64
import secrets


def new_id() -> str:
    """A fresh id."""
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]
