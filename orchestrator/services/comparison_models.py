"""What can answer in a comparison: checkpoints, external models, folders and hub models, each with its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.external_folder import ADAPTER, CONFIG, MANIFEST
from orchestrator.models import Checkpoint
from orchestrator.models.ids import new_id
from orchestrator.selectors.externals import external_named, is_here
from orchestrator.selectors.inputs import checkpoint_named
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.selectors.reward_models import is_scoring
from trainer.problems import Problem
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX, spec_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import External

NAME_MOST = 120
MODEL_MOST = 300
SCORES = (
    "is a reward model: it scores, and writes no answers; name it in a scorer of type reward-model"
)
DESCRIBING = (CONFIG, ADAPTER, "tokenizer.json", "tokenizer_config.json")
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Candidate:
    """A model that can be an arm."""

    model: str
    """As `model.name` of a spec."""
    name: str
    digest: str
    checkpoint: Checkpoint | None = None
    train_seed: int | None = None
    recipe: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def candidates_of(names: Sequence[str]) -> tuple[list[Candidate], list[Problem]]:
    """The models, with names that differ, and what is wrong with the others."""
    found: list[Candidate] = []
    problems: list[Problem] = []
    for place, name in enumerate(names):
        try:
            one = _candidate(name.strip())
            if any(one.model == other.model for other in found):
                raise ValueError(f"{name} is there twice; name each model once")
            found.append(one)
        except ValueError as error:
            problems.append(Problem(path=f"checkpoints.{place}", message=str(error)))
    return _named_apart(found), problems


def _candidate(name: str) -> Candidate:
    """Raises ValueError with a sentence."""
    if not name or len(name) > MODEL_MOST or not name.isprintable():
        raise ValueError(f"a model is named by 1 to {MODEL_MOST} printable characters")
    if name.startswith((CHECKPOINT_PREFIX, RUN_PREFIX)):
        return _of_checkpoint(name)
    if name.startswith(EXTERNAL_PREFIX):
        return _of_external(name)
    return _of_place(name)


def _of_checkpoint(name: str) -> Candidate:
    checkpoint = checkpoint_named(name)
    if checkpoint is None:
        gone = Checkpoint.objects.filter(pk=name.removeprefix(CHECKPOINT_PREFIX)).first()
        if gone is not None:
            raise ValueError(f"{name}: its files were removed; choose one that is kept")
        raise ValueError(f"there is no {name}")
    if is_being_deleted(checkpoint.run_id):
        raise ValueError(f"{name}: its run is being deleted")
    run = checkpoint.run
    spec = run.effective_spec or run.spec
    if is_scoring(run.spec):
        raise ValueError(f"{name} ({run.name or run.pk}) {SCORES}")
    return Candidate(
        model=f"{CHECKPOINT_PREFIX}{checkpoint.pk}",
        name=f"{run.name or run.pk}, step {checkpoint.step:,}"[:NAME_MOST],
        digest=checkpoint.sha256,
        checkpoint=checkpoint,
        train_seed=spec.get("seed") if isinstance(spec.get("seed"), int) else None,
        recipe=_recipe_of(run.spec),
        facts={"step": checkpoint.step, "run": run.pk, "source": "checkpoint"},
    )


def _recipe_of(spec: dict[str, Any]) -> str:
    """Specs that differ by seed and name alone have one recipe."""
    return spec_hash({key: value for key, value in spec.items() if key not in ("seed", "name")})


def _of_external(name: str) -> Candidate:
    """A registered model."""
    external = external_named(name)
    if external is None:
        raise ValueError(f"there is no {name}")
    if external.facts.get("outputs"):
        raise ValueError(f"{name} ({external.name}) {SCORES}")
    digest = external_digest(external)
    return Candidate(
        model=name,
        name=str(external.name)[:NAME_MOST],
        digest=digest or _digest_of_nobody(),
        facts={
            "source": "external",
            "origin": str(external.source)[:300],
            "shared": bool(digest),
        },
    )


def digest_now(name: str) -> str:
    """The digest of a folder or an external model as it is now; "" where nobody here can look at its weights."""
    if name.startswith(EXTERNAL_PREFIX):
        external = external_named(name)
        return external_digest(external) if external else ""
    return folder_digest(name)


def external_digest(external: External) -> str:
    """What tells a registered model's weights from others'; "" where nobody has looked at them.

    A manifest names the hash of every file. Any other folder is registered by the hash of its config, which
    models of one architecture share: its weights count too, or else that they are this registration's.
    """
    if not external.sha256:
        return ""
    if is_here(external):
        if (Path(external.source) / MANIFEST).is_file():
            return external.sha256
        if found := folder_digest(external.source):
            return found
    text = json.dumps([external.pk, external.sha256, str(external.read)])
    return hashlib.sha256(text.encode()).hexdigest()


def _of_place(name: str) -> Candidate:
    """A folder or a hub model."""
    folder, digest = Path(name).expanduser(), folder_digest(name)
    return Candidate(
        model=name,
        name=(folder.name if digest else name)[:NAME_MOST] or name[:NAME_MOST],
        digest=digest or _digest_of_nobody(),
        facts={"source": "folder" if digest else "name", "shared": bool(digest)},
    )


def folder_digest(name: str) -> str:
    """Of what describes the model and of its weights' names, sizes and times; "" for what is no folder here.

    Weights may be many gigabytes: they are not read, so a folder whose files were written again is another model.
    """
    folder = Path(name).expanduser()
    try:
        holds = any((folder / name).is_file() for name in (CONFIG, ADAPTER))
        if not (folder.is_absolute() and holds):
            return ""
        known = {
            name: (folder / name).read_bytes().hex()
            for name in DESCRIBING
            if (folder / name).is_file()
        }
        weights = sorted(
            [path.name, path.stat().st_size, path.stat().st_mtime_ns]
            for pattern in WEIGHTS
            for path in folder.glob(pattern)
        )
    except OSError:
        return ""
    text = json.dumps([known, weights], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_nobody() -> str:
    """For weights that nobody here can look at: nobody else's answers are taken for theirs."""
    return hashlib.sha256(f"unread {new_id()}".encode()).hexdigest()


def _named_apart(found: list[Candidate]) -> list[Candidate]:
    taken: set[str] = set()
    apart = []
    for one in found:
        name, number = one.name, 2
        while name in taken:
            more = f" ({number})"
            name, number = one.name[: NAME_MOST - len(more)] + more, number + 1
        taken.add(name)
        apart.append(Candidate(**{**vars(one), "name": name}))
    return apart
