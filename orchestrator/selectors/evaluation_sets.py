"""The prompts of evaluation sets that people name: data sets here, and what runs evaluate on."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.models import Dataset, Run
from orchestrator.selectors.datasets import dataset_path
from trainer import registry
from trainer.rows import rows_load
from trainer.spec import RUN_PREFIX, DataSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETS_MOST = 20
PROMPTS_MOST = 500_000
_PROMPT = frozenset({"prompt"})


def evaluation_prompts(names: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The prompts of all that is named, and what was read, in words.

    A name is a data set's id, or `run:ID`. Raises ValueError, with the name, for one that is not there or
    cannot be read on this server: nothing is downloaded, and no file but data sets is opened.
    """
    if len(names) > SETS_MOST:
        raise ValueError(f"against: at most {SETS_MOST} evaluation sets at once")
    prompts: list[Any] = []
    told: list[str] = []
    for name in dict.fromkeys(names):
        found, words = _of_run(name) if name.startswith(RUN_PREFIX) else _of_dataset(name)
        prompts += found
        told += words
        if len(prompts) > PROMPTS_MOST:
            raise ValueError(f"against: more than {PROMPTS_MOST:,} prompts; name fewer sets")
    return prompts, told


def _of_dataset(name: str) -> tuple[list[Any], list[str]]:
    dataset = Dataset.objects.filter(pk=name[:12]).first() if len(name) == 12 else None
    if dataset is None:
        raise ValueError(
            f"against: '{name[:60]}' is no data set here; give a data set's id, or run:ID"
        )
    source = DataSource(source=dataset.pk, columns=dataset.mapping)
    return _read(source, dataset.name, {dataset.pk: _file_of(dataset)}, 0), [dataset.name]


def _of_run(name: str) -> tuple[list[Any], list[str]]:
    run = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)[:12]).first()
    if run is None:
        raise ValueError(f"against: there is no run '{name[:60]}'")
    sources = run.spec.get("data", {}).get("eval", [])
    if not sources:
        raise ValueError(f"against: {run.name or run.pk} evaluates on no data")
    prompts: list[Any] = []
    told: list[str] = []
    for given in sources:
        source = DataSource.model_validate(given)
        dataset = Dataset.objects.filter(pk=source.source).first()
        built_in = registry.family("data").get(source.source)
        if dataset is not None:
            if not source.columns:
                source = source.model_copy(update={"columns": dataset.mapping})
            files = {dataset.pk: _file_of(dataset)}
            words = dataset.name
        elif built_in is not None and issubclass(built_in, registry.Source):
            files, words = {}, f"{source.source} ({source.split})"
        else:
            raise ValueError(
                f"against: {run.name or run.pk} evaluates on '{source.source[:100]}', which only its node "
                "reads; upload it as a data set and name that"
            )
        prompts += _read(source, words, files, int(run.spec.get("seed", 0)))
        told.append(f"{words} of {run.name or run.pk}")
    return prompts, told


def _read(source: DataSource, words: str, files: dict[str, Path], seed: int) -> list[Any]:
    try:
        loaded = rows_load(source, seed=seed, wanted=_PROMPT, datasets=files)
    except ValueError as error:
        raise ValueError(f"against: {words} cannot be read: {error}") from error
    return [row["prompt"] for row in islice(loaded.rows, PROMPTS_MOST + 1)]


def _file_of(dataset: Dataset) -> Path:
    path = dataset_path(dataset)
    if not path.is_file():
        raise ValueError(f"against: the file of {dataset.name} is not on this server")
    return path
