"""A store of objects under one URL, by fsspec. What fails is a sentence about ANNEAL_ARTIFACTS_URL.

Drivers' own words are never passed on: an address in them might hold a password.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import fsspec

from orchestrator.artifacts.place import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        # The default waits for minutes before it says that nobody answers.
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"max_attempts": 2},
        },
    },
}
"""Of drivers, by scheme."""
READ = 8 << 20
"""Bytes that are read at once."""
DRAFT = ".arriving"
PROBE = ".anneal-probe"
REFUSES = (
    *("Credential", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("ExpiredToken", "InvalidToken", "Unauthorized", "AuthenticationError", "RefreshError"),
)
FULL = ("QuotaExceeded", "StorageFull", "InsufficientCapacity", "InsufficientStorage")
NO_BUCKET = ("NoSuchBucket", "InvalidBucketName", "ContainerNotFound")


class StoreError(Exception):
    """The store did not do it; the text says what to change. Trying again later is right."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        """unreachable, credentials, missing, full, or driver."""
        super().__init__(text)


@lru_cache(maxsize=8)
def store_at(url: str) -> Store:
    """The store at this URL, one in each process."""
    return Store(url)


class Store:
    """Objects by key, such as checkpoints/RUN/STEP-HASH/manifest.json. Usable from several threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._local = urlsplit(url).scheme == "file"
        self._opened: tuple[Any, str] | None = None
        self._lock = threading.Lock()

    def put(self, file: Path, key: str) -> None:
        """Bring a file; readers see all of it or what was there before."""
        with self._told(writes=True):
            if not self._local:
                fs, path = self._at(key)
                fs.put_file(str(file), path)
                return
            self._root_check()
            target = Path(self._at(key)[1])
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f"{target.name}{DRAFT}")
            with file.open("rb") as source, draft.open("wb") as copy:
                shutil.copyfileobj(source, copy, READ)
                copy.flush()
                os.fsync(copy.fileno())
            draft.replace(target)

    def size(self, key: str) -> int | None:
        """Bytes of an object; None when it is not there."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            fs, path = self._at(key)
            return int(fs.info(path)["size"])
        return None

    def sha256(self, key: str) -> str | None:
        """SHA-256 of what the store gives back, read whole; None when it is not there."""
        size, digest = self.size(key), hashlib.sha256()
        if size is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            for piece in self.pieces(key, 0, size):
                digest.update(piece)
            return digest.hexdigest()
        return None

    def pieces(self, key: str, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` to `end`, piece by piece. Raises FileNotFoundError when it is not there."""
        with self._told():
            fs, path = self._at(key)
            with fs.open(path, "rb", block_size=READ) as file:
                file.seek(begin)
                while begin < end:
                    piece = file.read(min(READ, end - begin))
                    if not piece:
                        return
                    begin += len(piece)
                    yield piece

    def read(self, key: str, most: int) -> bytes | None:
        """A small object; None when it is not there or larger than `most` bytes."""
        size = self.size(key)
        if size is not None and size <= most:
            with contextlib.suppress(FileNotFoundError):
                return b"".join(self.pieces(key, 0, size))
        return None

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every object below `folder`, by name relative to it."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            fs, path = self._at(folder)
            found = fs.find(path, detail=True)
            return {
                name: int(info["size"])
                for full, info in found.items()
                if not (name := full[len(path) + 1 :]).endswith(DRAFT)
            }
        return {}

    def folders(self, folder: str) -> list[str]:
        """Names of the folders right below `folder`."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            fs, path = self._at(folder)
            found = fs.ls(path, detail=True)
            return [
                str(one["name"]).rstrip("/").rpartition("/")[2]
                for one in found
                if one["type"] == "directory"
            ]
        return []

    def remove(self, key: str) -> None:
        """Remove an object, or everything below a folder."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            fs, path = self._at(key)
            fs.rm(path, recursive=True)

    def probe(self) -> None:
        """Write a few bytes and read them. Raises StoreError when that does not work."""
        with self._told(writes=True):
            self._root_check()
            fs, path = self._at(PROBE)
            said = os.urandom(8)
            fs.pipe_file(path, said)
            if fs.cat_file(path) != said:
                raise StoreError("unreachable", f"{VARIABLE}: {self.url} gives back other bytes.")

    def _at(self, key: str) -> tuple[Any, str]:
        """The driver, and the key as it names it."""
        with self._lock:
            if self._opened is None and self._local:
                self._opened = fsspec.filesystem("file"), unquote(urlsplit(self.url).path)
            elif self._opened is None:
                # Listings that are remembered would hide what others write.
                words: dict[str, Any] = {"use_listings_cache": False}
                words |= OPTIONS.get(urlsplit(self.url).scheme, {})
                self._opened = fsspec.core.url_to_fs(self.url, **words)
            assert self._opened is not None
        fs, root = self._opened
        return fs, f"{root.rstrip('/')}/{key}"

    def _root_check(self) -> None:
        """A shared folder that is not mounted must not become a folder of this disk."""
        if self._local and not Path(self._at("")[1]).is_dir():
            raise FileNotFoundError(self.url)

    @contextlib.contextmanager
    def _told(self, *, writes: bool = False) -> Iterator[None]:
        """Turn what a driver raises into a StoreError; FileNotFoundError stays, unless something must be there."""
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as error:
            if not writes and _code(error) not in NO_BUCKET:
                raise
            raise StoreError("missing", self._missing()) from error
        except Exception as error:
            # Every driver has exceptions of its own, down to those of its HTTP client.
            raise self._explained(error) from error

    def _missing(self) -> str:
        return (
            f"{VARIABLE}: there is no {self.url} (any more): make the bucket or mount the folder, or set "
            "it to one that is there."
        )

    def _explained(self, error: Exception) -> StoreError:
        name = _code(error)
        if isinstance(error, ImportError):
            text = f"{VARIABLE}: a package that {self.url} needs is missing here: {error}"
            return StoreError("driver", text)
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(word in name for word in FULL):
            return StoreError("full", f"{VARIABLE}: {self.url} is full ({name}); free some room.")
        if isinstance(error, PermissionError) or any(word in name for word in REFUSES):
            return StoreError(
                "credentials",
                f"{VARIABLE}: {self.url} refuses this machine ({name}). Set credentials that may read, write, "
                "list and delete there in the environment (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
                "for a folder its permissions), and start the process again.",
            )
        return StoreError(
            "unreachable",
            f"{VARIABLE}: {self.url} does not answer ({name}). Check that it is up, that this machine reaches it, "
            "and its address (for S3 AWS_ENDPOINT_URL).",
        )


@dataclass(frozen=True)
class StoredFile:
    """One object, as something to be handed out."""

    store: Store
    key: str
    size: int

    @property
    def name(self) -> str:
        """Without its folders."""
        return self.key.rpartition("/")[2]


def _code(error: BaseException) -> str:
    """What a store calls its refusal, or the exception's own name."""
    cause: BaseException | None = error
    while cause is not None:
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict) and (code := answer.get("Error", {}).get("Code")):
            return str(code)[:60]
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
