"""External models: register, read again, forget. Their files are only ever read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.external_folder import folder_check, folder_look
from orchestrator.models import External, Node, Source, Stage
from orchestrator.selectors.externals import external_get, is_here, runs_needing
from orchestrator.services.checkpoint_removals import RELEASE_FIRST
from orchestrator.services.registry import (
    NAME_MOST,
    change_note,
    external_locked,
    may_change_check,
    name_checked,
    stage_drop,
    tags_checked,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import User

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,119}")
EVERYWHERE = "*"
"""For `node`: the folder lies under the same path on every machine."""
SOURCE_MOST = 1000


def external_register(
    *,
    owner: User,
    source: str,
    name: str = "",
    revision: str = "",
    node: str = "",
    tags: Iterable[str] = (),
    note: str = "",
) -> External:
    """Register a folder (an absolute path) or a hub model (NAME/MODEL).

    `node` says on whose disk a folder lies: "" on this server's machine, `*` on every one, or a node's name. What
    this server can read is read at once. Raises ValueError with a sentence that names the field.
    """
    source = source.strip()
    if source.startswith("/"):
        fields = _path_fields(source, revision.strip(), node.strip())
    else:
        fields = _hub_fields(source, revision.strip(), node.strip())
    called = name_checked(name.strip() or fields["source"].rstrip("/").rpartition("/")[2])
    with transaction.atomic():
        same = {key: fields[key] for key in ("kind", "source", "revision", "node", "everywhere")}
        if (known := External.objects.filter(**same).first()) is not None:
            raise ValueError(f"source: registered already as {known.name} (external:{known.pk})")
        made = External.objects.create(
            name=called[:NAME_MOST],
            owner=owner,
            tags=tags_checked(tags),
            note=note.replace("\x00", "").strip(),
            **fields,
        )
        change_note(made, "registered", who=owner.get_username(), new=made.source)
    return made


def external_reread(*, external_id: str, user: User, role: str | None = None) -> External:
    """Look into the folder again. A model that has become another one loses its stage.

    Raises PermissionDenied, or ValueError with a sentence.
    """
    with transaction.atomic():
        external = external_locked(external_id)
        may_change_check(external, user, role)
        if not is_here(external):
            raise ValueError(
                "A hub model is read by the node that loads it, not here."
                if external.kind == Source.HUB
                else f"The folder lies on {external.node}, and this server cannot look into it."
            )
        before = external.sha256
        for field, value in _looked(external.source).items():
            setattr(external, field, value)
        external.save(update_fields=["sha256", "bytes", "facts", "read"])
        if before != external.sha256:
            who = user.get_username()
            change_note(external, "read", who=who, old=before, new=external.sha256)
            if external.stage != Stage.NONE:
                stage_drop(external, who=who, why="its folder holds another model now")
    return external


def external_delete(*, external_id: str, user: User, role: str | None = None) -> None:
    """Forget an external model; its files stay where they are.

    Raises PermissionDenied, or ValueError for one that is pinned, approved or needed by a run.
    """
    with transaction.atomic():
        external = external_locked(external_id)
        may_change_check(external, user, role)
        if external.protection:
            raise ValueError(f"It is {external.protection}. {RELEASE_FIRST}")
        if needing := runs_needing(external):
            names = ", ".join(run.name or run.pk for run in needing[:3])
            raise ValueError(f"It stays: {names} needs it and has not ended.")
        change_note(external, "deleted", who=user.get_username(), old=external.source)
        external.delete()


def source_problem(external: External) -> str:
    """What is wrong with the folder now, as far as this server can look; "" when nothing is."""
    if not is_here(external):
        return ""
    folder = Path(external.source)
    if external.everywhere and not folder.exists():
        return ""
    try:
        folder_check(folder)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def external_problem(name: str) -> str:
    """Why a run cannot start from `external:ID`; "" when it can, as far as this server can look."""
    external = external_get(name.rpartition(":")[2])
    if external is None:
        return f"there is no {name} here"
    problem = source_problem(external)
    return f"{name} ({external.name}): {problem}" if problem else ""


def _path_fields(source: str, revision: str, node: str) -> dict[str, Any]:
    path = os.path.normpath(source)
    if len(path) > SOURCE_MOST or not path.isprintable():
        raise ValueError(f"source: a path of at most {SOURCE_MOST} characters that can be shown")
    if revision:
        raise ValueError("revision: folders have none; leave it empty")
    fields: dict[str, Any] = {
        "kind": Source.PATH,
        "source": path,
        "revision": "",
        "everywhere": node == EVERYWHERE,
        "node": _node(node) if node not in ("", EVERYWHERE) else None,
    }
    unread: dict[str, Any] = {"sha256": "", "bytes": None, "facts": {}, "read": None}
    of_node = fields["node"] is not None and not fields["node"].local
    if of_node or (node == EVERYWHERE and not Path(path).exists()):
        return fields | unread
    try:
        return fields | _looked(path)
    except ValueError as error:
        raise ValueError(f"source: {error}") from error


def _hub_fields(source: str, revision: str, node: str) -> dict[str, Any]:
    if not HUB_ID.fullmatch(source) or ".." in source or "--" in source:
        raise ValueError(
            f"source: '{source[:80]}' is no absolute path and no hub id; write /path/to/folder or NAME/MODEL"
        )
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ValueError(f"revision: '{revision[:80]}' is no branch, tag or commit")
    if node:
        raise ValueError("node: a hub model lies on no node; leave it empty")
    return {
        "kind": Source.HUB,
        "source": source,
        "revision": revision,
        "node": None,
        "everywhere": False,
    }


def _node(name: str) -> Node:
    found = Node.objects.filter(name=name, removed=None).first()
    if found is None:
        raise ValueError(f"node: there is no node '{name[:64]}'")
    return found


def _looked(path: str) -> dict[str, Any]:
    """What the folder says of itself, as fields. Raises ValueError."""
    try:
        looked = folder_look(Path(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    return {
        "sha256": looked.sha256,
        "bytes": looked.bytes,
        "facts": looked.facts,
        "read": timezone.now(),
    }
