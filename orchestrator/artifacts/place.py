"""Reads ANNEAL_ARTIFACTS_URL: a place that server and nodes share, or nothing."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

VARIABLE = "ANNEAL_ARTIFACTS_URL"
EXAMPLES = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///mnt/shared/anneal"
NO_PLACE_FOR_ALL = frozenset({"memory", "data", "local", "http", "https", "github", "zip", "tar"})
"""What fsspec speaks and no other process sees, or nobody can write to."""


def url_checked(text: str, data_dir: Path) -> str:
    """The URL of the shared store, "" for the server's own data directory (the default).

    Raises ValueError that names the variable and what to change; it never repeats what may be a password.
    """
    text = text.strip().rstrip("/")
    if text.startswith("/"):
        text = Path(text).as_uri()
    if not text:
        return ""
    where = urlsplit(text)
    # Azure writes CONTAINER@ACCOUNT.
    named = where.username is not None and where.scheme not in ("abfs", "abfss")
    if named or where.password is not None or where.query or where.fragment:
        raise ValueError(
            f"{VARIABLE} holds credentials or options; leave them out, and set credentials in the environment "
            "that the store's driver reads (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    if not where.scheme or "::" in text or "://" not in text:
        raise ValueError(f"{VARIABLE} is '{text[:80]}'; set it to a URL such as {EXAMPLES}.")
    if where.scheme in NO_PLACE_FOR_ALL:
        raise ValueError(
            f"{VARIABLE} begins with {where.scheme}://, which is no place that server and nodes share and can "
            f"write to; set it to a URL such as {EXAMPLES}."
        )
    if where.scheme == "file":
        return _folder(text, data_dir)
    _driver_check(where.scheme)
    if not where.netloc:
        raise ValueError(f"{VARIABLE} is '{text[:80]}', without a bucket; write {EXAMPLES}.")
    return text


def _folder(text: str, data_dir: Path) -> str:
    where = urlsplit(text)
    if where.netloc or not where.path.startswith("/"):
        raise ValueError(
            f"{VARIABLE} is '{text[:80]}'; write an absolute path: file:///mnt/shared."
        )
    path = os.path.realpath(unquote(where.path))
    return "" if path == os.path.realpath(data_dir / "artifacts") else Path(path).as_uri()


def _driver_check(scheme: str) -> None:
    """Raise ValueError unless the package is installed that speaks to such a store."""
    # Not above: only who has set the variable pays for loading it.
    from fsspec.registry import known_implementations  # noqa: PLC0415

    if scheme not in known_implementations:
        raise ValueError(f"{VARIABLE} begins with {scheme}://, which fsspec does not know.")
    package = known_implementations[scheme]["class"].partition(".")[0]
    if find_spec(package) is None:
        raise ValueError(
            f"{VARIABLE} begins with {scheme}://, for which the package {package} is missing here; "
            f"install it: pip install {package}"
        )
