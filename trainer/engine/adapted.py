"""Models that carry an adapter in peft's format: attached in place, switched off, saved, merged.

The adapter's layers are put into the model itself, which stays the transformers class it was: sampling
and scoring need not know of it. The base weights are never changed; `merged` works on a model of its own.
"""

# peft takes a second to import, and most runs have no adapter.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE = "base"
"""Folder inside an adapter's folder that holds its base, where that was made on the spot."""
NAME = "default"
PREFIX = "base_model.model."
"""Before every key in the file, as peft writes it."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / ADAPTER_CONFIG).is_file()


def is_adapted(model: Any) -> bool:
    """Whether a model carries an adapter."""
    return bool(getattr(model, "peft_config", None))


def adapter_attach(model: Any, config: Any, seed: int) -> None:
    """Put a new adapter into a model; everything else is frozen. Raises ValueError when it does not fit."""
    from peft import inject_adapter_in_model

    model.requires_grad_(False)
    # New weights are a pure function of the seed, and no other draw moves.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model, adapter_name=NAME)
        except ValueError as error:
            raise ValueError(f"adapter.target_modules: {error}") from error


def adapter_load(model: Any, folder: Path) -> None:
    """Put a saved adapter into its base, to the bit. Raises ValueError when it does not fit."""
    from peft import set_peft_model_state_dict

    saved = load_file(folder / ADAPTER_WEIGHTS)
    adapter_place(model, folder)
    plain = {key.removeprefix(PREFIX): value for key, value in saved.items()}
    set_peft_model_state_dict(model, plain, adapter_name=NAME)
    misfits = sorted(set(adapter_weights(model)) ^ set(saved))
    if misfits:
        raise ValueError(f"{folder}: the adapter does not fit its base ({misfits[0]})")


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the names they have in peft's file."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
    return {PREFIX + name: value for name, value in found.items()}


def adapter_write(folder: Path, model: Any, weights: dict[str, torch.Tensor], base: str) -> None:
    """Write an adapter as peft would; `base` says where its base model is found."""
    (folder / ADAPTER_CONFIG).write_text(adapter_config(model, base))
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def adapter_config(model: Any, base: str) -> str:
    """What `adapter_write` writes beside the weights."""
    config = model.peft_config[NAME].to_dict()
    # Sets have no order: two runs of the same spec would write different files.
    plain = {key: sorted(v) if isinstance(v, set) else v for key, v in config.items()}
    plain |= {"base_model_name_or_path": base, "inference_mode": True}
    return json.dumps(plain, indent=2, sort_keys=True, default=_plain)


def adapter_place(model: Any, folder: Path) -> None:
    """Put the layers of a saved adapter's configuration into its base; their weights are to be given."""
    from peft import PeftConfig, inject_adapter_in_model

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    model.requires_grad_(False)
    with torch.random.fork_rng():
        inject_adapter_in_model(config, model, adapter_name=NAME)


def _plain(value: Any) -> Any:
    """What a config holds besides plain data: enumerations and nested configs."""
    return getattr(value, "value", None) or value.to_dict()


def base_of(folder: Path) -> str:
    """Folder or hub id of an adapter's base. Raises ValueError when it names none."""
    name = str(json.loads((folder / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path"))
    inside = folder / BASE
    if inside.is_dir():
        return str(inside)
    if not name or name == "None":
        raise ValueError(f"{folder}: {ADAPTER_CONFIG} does not say which base the adapter is for")
    beside = folder / name
    return str(beside) if beside.is_dir() else name


@contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """The base model: the adapter is switched off within, and no gradient is kept of it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    layers = [
        m for m in model.modules() if isinstance(m, (BaseTunerLayer, AuxiliaryTrainingWrapper))
    ]
    wanted = [p for p in model.parameters() if p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in wanted:
            parameter.requires_grad_(True)


def merged(model: Any) -> Any:
    """The plain model with the adapter added into its weights. Changes `model`: give it a copy."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.modules_to_save[NAME])
    del model.peft_config
    model.requires_grad_(True)
    return model
