"""Prepares an attempt: its directory, its lease, and on this disk everything that its spec names by id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.external_folder import identity_of
from orchestrator.node.checkpoint_fetch import Damaged, Sources, is_checkpoint
from orchestrator.node.fetched import used
from trainer.control import Control
from trainer.disk import folder_remove
from trainer.gang import Gang, gang_write
from trainer.named_models import reward_models
from trainer.rundir import RunDir, write_atomic
from trainer.spec import SpecError, spec_parse
from trainer.tables import ending_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.artifacts.store import Store
    from orchestrator.node.server import Server
    from trainer.rundir import AttemptDir


class CannotPrepare(Exception):
    """The order cannot be carried out here; the text says why."""


@dataclass(frozen=True)
class Prepared:
    """An attempt that is ready to start."""

    attempt: AttemptDir
    arguments: list[str]
    """Behind `python -m MODULE`."""
    module: str = "trainer"
    """The trainer; on a further machine of a gang its deputy."""


def prepare(
    order: dict[str, Any],
    *,
    data_dir: Path,
    server: Server,
    gpus: list[int],
    store: Store | None = None,
    is_over: Callable[[], bool] = lambda: False,
    address: str = "",
) -> Prepared:
    """Make everything ready; `address`: under which other machines reach this one.

    Raises CannotPrepare, or Unreachable or StoreError while those are away.
    """
    sources = Sources(server, store, is_over)
    try:
        return _prepared(order, data_dir, sources, gpus, address)
    except Damaged as error:
        raise CannotPrepare(str(error)) from error


def _prepared(
    order: dict[str, Any], data_dir: Path, sources: Sources, gpus: list[int], address: str
) -> Prepared:
    server = sources.server
    run = RunDir(data_dir / "runs" / order["run_id"])
    attempt = run.attempt(order["attempt"])
    if not run.exists():
        _spec_write(run, order["spec"])
    if place := order["resume"]:
        if not order["continues_here"]:
            _strays_remove(run, place)
        _own_checkpoint(run, place, order["voids"], sources)
    uses: list[Path] = []
    gang: dict[str, Any] | None = order.get("gang")
    further = gang is not None and gang["index"] > 0
    arguments = ["--dir", str(run.path)] if further else ["resume", str(run.path)]
    arguments += ["--attempt", str(attempt.number)]
    for path, option, name in _models_of(order["spec"]):
        place = order["inputs"]["models"].get(name)
        named = f"{name}=" if option in ("--play-path", "--reward-path") else ""
        if place and "external" in place:
            arguments += [option, named + _external(place, path)]
        elif place:
            uses.append(_checkpoint(place, data_dir, sources))
            arguments += [option, f"{named}{uses[-1]}"]
        elif name.startswith(("run:", "checkpoint:")):
            raise CannotPrepare(f"{path}: {name} has no checkpoint (any more).")
        elif name.startswith("external:"):
            raise CannotPrepare(f"{path}: {name} is registered no more.")
    for pk, dataset in order["inputs"]["datasets"].items():
        uses.append(_dataset(pk, dataset, data_dir, server))
        arguments += ["--dataset", f"{pk}={uses[-1]}"]
    for number, step in order["voids"] if not further else ():
        arguments += ["--void", f"{number}:{step}"]
    arguments += [f"{path}={json.dumps(value)}" for path, value in order["overrides"].items()]
    attempt.path.mkdir(parents=True, exist_ok=True)
    write_atomic(attempt.past, json.dumps(order["past"]))
    run.pins_write(order.get("pins", []))
    # A server of an earlier version says nothing of stalls.
    on_stall = order.get("on_stall", "tell")
    Control(knobs=order["knobs"], asks=order["asks"], on_stall=on_stall).write(attempt.control)
    lease = {
        "server": server.socket_url,
        "token": order["lease_token"],
        "gpus": gpus,
        "uses": [path.relative_to(data_dir).as_posix() for path in uses],
    }
    if gang is not None:
        place = Gang(gang["index"], tuple(gang["names"]), address, gang["secret"])
        gang_write(attempt.gang, place)
        lease["member"] = place.index
    write_atomic(attempt.lease, json.dumps(lease), 0o600)
    return Prepared(attempt, arguments, "trainer.deputy" if further else "trainer")


def _models_of(spec: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Field, the trainer's option for it, and the name of every model that a spec names."""
    for part in ("model", "reference"):
        yield f"{part}.name", f"--{part}-path", spec.get(part, {}).get("name", "")
    for place, name in enumerate(spec.get("play", {}).get("models", [])):
        yield f"play.models.{place}", "--play-path", name
    for field, name in reward_models(spec):
        yield field, "--reward-path", name


def _spec_write(run: RunDir, raw: dict[str, Any]) -> None:
    try:
        run.create(spec_parse(raw))
    except SpecError as error:
        raise CannotPrepare(f"This node does not take the spec: {error}") from error


def _strays_remove(run: RunDir, place: dict[str, Any]) -> None:
    """Remove what an attempt here saved before the run went on elsewhere, from an earlier step.

    The trainer takes the newest checkpoint on the disk: with these it would leave the road that the run is on.
    """
    for step in run.checkpoint_steps():
        folder = run.checkpoint(step)
        same = step == place["step"] and is_checkpoint(folder, place["sha256"])
        if step >= place["step"] and not same:
            folder_remove(folder)


def _own_checkpoint(
    run: RunDir, place: dict[str, Any], voids: list[list[int]], sources: Sources
) -> None:
    """Fetch the run's own newest checkpoint when it was saved on another machine."""
    standing = [step for step in run.checkpoint_steps() if not run.is_void(step, voids)]
    if not any(step >= place["step"] for step in standing):
        sources.fetch(place, run.checkpoint(place["step"]))


def _checkpoint(place: dict[str, Any], data_dir: Path, sources: Sources) -> Path:
    """The folder of another run's checkpoint: where it was saved, or a copy that is fetched once."""
    there = data_dir / "runs" / place["run"] / place["path"]
    if is_checkpoint(there, place["sha256"]):
        return there
    copy = data_dir / "fetched" / place["checkpoint"]
    if not is_checkpoint(copy, place["sha256"]):
        sources.fetch(place, copy)
    used(copy)
    return copy


def _external(place: dict[str, Any], field: str) -> str:
    """What the trainer loads for an external model: its hub id, or its folder, if that is the registered one."""
    if place["kind"] == "hub":
        return str(place["source"])
    folder, called = (
        Path(place["source"]),
        f"{field}: external:{place['external']} ({place['name']})",
    )
    if not folder.is_dir():
        raise CannotPrepare(f"{called}: {folder} is not there on this machine.")
    try:
        told_by, sha256 = identity_of(folder)
    except (ValueError, OSError) as error:
        raise CannotPrepare(f"{called}: {error}.") from error
    if place["sha256"] and sha256 != place["sha256"]:
        raise CannotPrepare(
            f"{called}: {folder / told_by} is not what was registered; look at it again on its page."
        )
    return str(folder)


def _dataset(pk: str, dataset: dict[str, Any], data_dir: Path, server: Server) -> Path:
    """The file of a dataset, stored by its content."""
    sha256 = dataset["sha256"]
    # The ending belongs to the name: the same bytes may be read as two formats.
    target = data_dir / "datasets" / f"{sha256}{ending_of(dataset['filename'])}"
    if target.is_file():
        used(target)
        return target
    try:
        server.download(f"/datasets/{pk}/file", target, sha256)
    except ValueError as error:
        raise CannotPrepare(f"The dataset {pk} is damaged: {error}") from error
    return target
