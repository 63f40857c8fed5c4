"""Models that a spec names by what only the server knows: `run:ID`, `checkpoint:ID` and `external:ID`.

`model`, `reference` and `play` take them, and each knob of a reward that is declared with
`json_schema_extra={"names_model": True}`; `reward_folder` tells such a reward where its model lies. The
folders are known to the whole process, because a reward is made anew whenever a live knob changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUN_PREFIX, CHECKPOINT_PREFIX, EXTERNAL_PREFIX = "run:", "checkpoint:", "external:"
PREFIXES = (RUN_PREFIX, CHECKPOINT_PREFIX, EXTERNAL_PREFIX)
_folders: dict[str, str] = {}


def reward_folders_set(folders: Mapping[str, str]) -> None:
    """Say where the models of this process's rewards lie: name -> folder, or a hub id."""
    _folders.clear()
    _folders.update(folders)


def reward_folder(name: str) -> str:
    """The folder or hub id that a reward's model name stands for.

    Raises ValueError for a name that only the server knows, where it was not told.
    """
    if name.startswith(PREFIXES) and name not in _folders:
        raise ValueError(
            f"rewards: {name} is known to the server only; give its folder with --reward-path {name}=FOLDER"
        )
    return _folders.get(name, name)


def reward_knobs() -> Iterator[tuple[str, str]]:
    """Tag of each reward, and its knob, that names a model."""
    from trainer import registry  # noqa: PLC0415 - the registry's methods need this module

    for tag, method in registry.family("rewards").items():
        for name, info in method.model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("names_model"):
                yield tag, name


def reward_models(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Field and name of each model that the rewards of a spec, as plain data, name."""
    knobs = list(reward_knobs())
    rewards = spec.get("rewards")
    for number, reward in enumerate(rewards if isinstance(rewards, (list, tuple)) else ()):
        for tag, knob in knobs if isinstance(reward, dict) else ():
            if reward.get("type") == tag and isinstance(name := reward.get(knob), str) and name:
                yield f"rewards.{number}.{knob}", name
