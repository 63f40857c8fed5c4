"""Datasets: upload, rename, delete. A file is stored once by its content, after all of it was read."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction

from orchestrator.models import Dataset, Role
from orchestrator.selectors.datasets import dataset_path, folder, runs_in_progress
from orchestrator.services.dataset_look import COLUMN_NAME_MOST, file_look
from orchestrator.services.event_fields import text_storable
from orchestrator.uploads import upload_most
from trainer.tables import ending_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.models import User

NAME_MOST = 120
PIECE = 1 << 20
DRAFT = ".incoming-"
DRAFT_SECONDS = 24 * 3600.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class TooLarge(ValueError):
    """The file is larger than this server takes."""


def dataset_upload(
    *,
    owner: User,
    file: Any,
    name: str = "",
    mapping: Mapping[str, str] | None = None,
    made_for: str = "",
) -> Dataset:
    """Store an uploaded file and what is known of it; the existing row when name and content are known.

    `file` is Django's UploadedFile. Raises ValueError with a sentence; then nothing stays stored.
    `created_now` of the answer tells a new row from an existing one.
    """
    filename = _filename(file.name or "")
    ending = ending_of(filename)
    name = _name(name) or _name(filename.removesuffix(filename[-len(ending) :])) or filename
    draft = _draft(ending)
    try:
        sha256, size = _copy(file, draft, filename)
        known = Dataset.objects.filter(name=name, sha256=sha256).first()
        if known is not None and dataset_path(known).is_file():
            return _told(known, created=False)
        looked = _look(draft, filename)
        fields: dict[str, Any] = {
            "owner": owner,
            "filename": filename,
            "bytes": size,
            "rows": looked.rows,
            "columns": list(looked.columns),
            "mapping": mapping_checked(mapping or {}, list(looked.columns)),
            "facts": looked.facts,
            "preview": looked.preview,
            "made_for": made_for,
        }
        with transaction.atomic():
            _lock(sha256)
            found, created = Dataset.objects.get_or_create(
                name=name, sha256=sha256, defaults=fields
            )
            _publish(draft, dataset_path(found))
        return _told(found, created=created)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError("the server's disk is full; nothing was stored") from error
    finally:
        draft.unlink(missing_ok=True)


def dataset_patch(
    *,
    dataset_id: str,
    user: User,
    role: str | None = None,
    name: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Dataset:
    """Rename a dataset, or what its columns are called here. `role` caps the user's own (API tokens)."""
    with transaction.atomic():
        dataset = _mine(dataset_id, user, role)
        if name is not None:
            dataset.name = _name(name)
            if not dataset.name:
                raise ValueError("name: a dataset needs a name")
            same = Dataset.objects.filter(name=dataset.name, sha256=dataset.sha256)
            if same.exclude(pk=dataset.pk).exists():
                raise ValueError(f"name: {dataset.name} with the same content exists already")
        if mapping is not None:
            dataset.mapping = mapping_checked(mapping, dataset.columns)
        dataset.save(update_fields=["name", "mapping"])
    return dataset


def dataset_delete(*, dataset_id: str, user: User, role: str | None = None) -> None:
    """Delete a dataset. Refused while a run that has not ended uses it. Frees the file with its last row."""
    with transaction.atomic():
        dataset = _mine(dataset_id, user, role)
        if using := runs_in_progress(dataset):
            names = ", ".join(run.name or run.pk for run in using[:3])
            more = f" and {len(using) - 3} more" if len(using) > 3 else ""
            raise ValueError(
                f"{dataset.name} is in use by {names}{more}; stop it first, or wait until it ended"
            )
        dataset.delete()
    _free(dataset)


def mapping_checked(mapping: Mapping[str, str], columns: list[str]) -> dict[str, str]:
    """The mapping without its empty entries. Raises ValueError when it cannot be carried out."""
    kept: dict[str, str] = {}
    for theirs, ours in mapping.items():
        if not isinstance(ours, str):
            raise ValueError(f"mapping: '{theirs[:60]}' must be mapped to a name")
        ours = ours.strip()
        if not ours or ours == theirs:
            continue
        if theirs not in columns:
            known = ", ".join(columns[:12])
            raise ValueError(
                f"mapping: there is no column '{theirs[:60]}'; the columns are {known}"
            )
        if len(ours) > COLUMN_NAME_MOST or _CONTROL.search(ours):
            raise ValueError(f"mapping: '{theirs[:60]}' is mapped to what cannot be a name")
        if ours in kept.values():
            raise ValueError(f"mapping: two columns are mapped to '{ours}'; choose one of them")
        kept[theirs] = ours
    return kept


def may_change(dataset: Dataset, user: User, role: str | None = None) -> bool:
    """Whether this person may rename or delete: an admin, or its owner while an operator."""
    role = role or str(user.role)
    return role == Role.ADMIN or (dataset.owner_id == user.pk and role == Role.OPERATOR)


def _mine(dataset_id: str, user: User, role: str | None) -> Dataset:
    dataset = Dataset.objects.select_for_update().get(pk=dataset_id)
    if not may_change(dataset, user, role):
        raise PermissionDenied("only its owner or an admin may change a dataset")
    return dataset


def _told(dataset: Dataset, *, created: bool) -> Dataset:
    dataset.created_now = created
    return dataset


def _filename(name: str) -> str:
    """The last part of a file's name, whatever system it comes from; it never becomes a path of ours."""
    plain = _CONTROL.sub("", name).replace("\\", "/").rpartition("/")[2].strip()
    # The ending says the format: a long name loses its beginning.
    return plain[-200:] or "file"


def _name(name: str) -> str:
    return _CONTROL.sub(" ", name).strip()[:NAME_MOST].strip()


def _draft(ending: str) -> Path:
    """An empty file in the folder of datasets; those that killed uploads left are removed."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob(f"{DRAFT}*"):
        if time.time() - old.stat().st_mtime > DRAFT_SECONDS:
            old.unlink(missing_ok=True)
    handle, path = tempfile.mkstemp(dir=place, prefix=DRAFT, suffix=ending)
    os.close(handle)
    return Path(path)


def _pieces(file: Any) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece


def _copy(file: Any, draft: Path, filename: str) -> tuple[str, int]:
    """Copy the upload to disk for good; its SHA-256 and size."""
    digest, size, most = hashlib.sha256(), 0, upload_most()
    with draft.open("wb") as target:
        for piece in _pieces(file):
            size += len(piece)
            if size > most:
                raise TooLarge(too_large_words(filename))
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest(), size


def too_large_words(filename: str = "the file") -> str:
    """What a person is told whose file is too large."""
    return (
        f"{filename}: larger than {settings.ANNEAL_MAX_UPLOAD_MB} MiB; pack it with gzip, split it, or "
        "raise ANNEAL_MAX_UPLOAD_MB on the server"
    )


def _look(draft: Path, filename: str) -> Any:
    try:
        return file_look(draft, most_bytes=upload_most())
    except ValueError as error:
        # People know their file's name, not where we read it.
        raise ValueError(text_storable(str(error).replace(str(draft), filename))) from error


def _lock(sha256: str) -> None:
    """Let nobody else store or free this content until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [sha256])


def _publish(draft: Path, path: Path) -> None:
    os.replace(draft, path)
    path.chmod(0o644)
    place = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _free(dataset: Dataset) -> None:
    """Remove the file unless another dataset has it. After the row is gone for good, never before."""
    path = dataset_path(dataset)
    with transaction.atomic():
        _lock(dataset.sha256)
        others = Dataset.objects.filter(sha256=dataset.sha256)
        if not any(dataset_path(other) == path for other in others):
            path.unlink(missing_ok=True)
