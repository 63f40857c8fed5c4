"""Loading models: the starter, a local folder in Hugging Face format, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from trainer.engine.adapted import adapter_load, base_of, is_adapter
from trainer.engine.chat import end_of_turn
from trainer.engine.policy import Policy
from trainer.engine.probe import probe
from trainer.engine.scorer import is_scorer, scorer_ready
from trainer.engine.starter import Shape, starter_model, starter_tokenizer
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX

if TYPE_CHECKING:
    from trainer.spec import Model

# Bars of every file that is read or written would fill the run's log.
transformers_logging.disable_progress_bar()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENIZER_FILES = ("*token*", "*vocab*", "*.model", "*.tiktoken", "tekken.json")
"""What a folder with a tokenizer holds at least one of, whichever kind it is."""


def device_pick(gpus: int | str) -> torch.device:
    """The GPU where one is wanted and there. Raises ValueError when one is demanded but absent."""
    if gpus == 0 or not torch.cuda.is_available():
        if isinstance(gpus, int) and gpus > 0:
            raise ValueError(
                f"resources.gpus = {gpus}, but this machine has no usable GPU; set it to 0 or auto"
            )
        return torch.device("cpu")
    return torch.device("cuda", 0)


def dtype_pick(wanted: str, device: torch.device) -> str:
    """The precision of the arithmetic that `auto` means on this device."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bfloat16"
    return "float32"


def starter_build(model: Model, characters: str, texts: list[str], seed: int) -> tuple[Any, Any]:
    """The starter model and its tokenizer."""
    shape = Shape.from_options(model.options)
    tokenizer = starter_tokenizer(shape, characters, texts)
    return starter_model(shape, tokenizer, seed), tokenizer


def folder_load(name: str, spec: Model) -> tuple[Any, Any]:
    """A model and its tokenizer from a folder or the hub, weights in float32. Raises ValueError.

    A folder that holds an adapter gives its base with the adapter in it.
    """
    if name.startswith((RUN_PREFIX, CHECKPOINT_PREFIX, EXTERNAL_PREFIX)):
        raise ValueError(
            f"model.name: {name} is known to the server only; give its folder with --model-path"
        )
    looks_like_a_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if path.is_dir():
        name = str(path)
        if is_adapter(path):
            return _adapter_load(path, spec)
        if not (path / "config.json").exists():
            raise ValueError(
                f"model.name: {path} holds no model (no config.json, no adapter_config.json)"
            )
    elif looks_like_a_path:
        raise ValueError(f"model.name: no folder {path}")
    options = _options(spec)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        kind = AutoModelForCausalLM
        if _classifies(AutoConfig.from_pretrained(name, **options)):
            kind = AutoModelForSequenceClassification
        model = kind.from_pretrained(name, dtype=torch.float32, use_safetensors=True, **options)
        _realign(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if path.is_dir() and not any(any(path.glob(pattern)) for pattern in TOKENIZER_FILES):
            reason = "it holds no tokenizer; copy the tokenizer's files there"
        raise ValueError(f"model.name: cannot load {name}: {reason}") from error
    return model, tokenizer


def _classifies(config: Any) -> bool:
    """Whether a folder was saved as a sequence classifier: what a reward model is to transformers."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def _adapter_load(folder: Path, spec: Model) -> tuple[Any, Any]:
    model, tokenizer = folder_load(base_of(folder), spec)
    try:
        adapter_load(model, folder)
        if (folder / "tokenizer_config.json").exists():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), **_options(spec))
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"model.name: cannot load the adapter of {folder}: {error}") from error
    return model, tokenizer


def _options(spec: Model) -> dict[str, Any]:
    revision = {"revision": spec.revision} if spec.revision else {}
    return {"trust_remote_code": spec.trust_remote_code, **revision}


def dtype_stored(name: str, spec: Model) -> str:
    """The precision in which the weights of a folder or hub model are stored; here they are float32."""
    path = Path(name).expanduser()
    if path.is_dir() and is_adapter(path):
        name = base_of(path)
    elif path.is_dir():
        name = str(path)
    found = AutoConfig.from_pretrained(name, **_options(spec)).get_text_config().dtype
    return str(found or "float32").removeprefix("torch.")


def _realign(model: Any) -> None:
    """Copy weights out of the mapped file: a matrix product's last bit depends on memory alignment."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def policy_make(model: Any, tokenizer: Any, device: torch.device, dtype: str) -> Policy:
    """A policy on its device, with its end tokens and fast paths found out. Raises ValueError."""
    eos = _eos_ids(model, tokenizer)
    if not eos:
        raise ValueError("model.name: neither the model nor its tokenizer names an end token")
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = eos[0]
        tokenizer.pad_token_id = pad
    model.to(device)
    model.config.use_cache = True
    if getattr(model, "generation_config", None) is not None:
        # An export must end its answers where they were trained to end.
        model.generation_config.eos_token_id = list(eos) if len(eos) > 1 else eos[0]
    # Dropout stays off: sampler and trainer must see the same policy.
    model.eval()
    policy = Policy(model, tokenizer, device, DTYPES[dtype], eos_ids=eos, pad_id=pad)
    if is_scorer(model):
        scorer_ready(policy)
    elif model.get_output_embeddings() is None:
        raise ValueError(
            f"model.name: a {type(model).__name__} ends neither in a vocabulary nor in a score head"
        )
    else:
        probe(policy)
    return policy


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every end token: the tokenizer's first, and the one that ends a turn of its chat template."""
    found: list[int] = []
    # A reward model generates nothing; its config keeps what its language model ended answers with.
    generation = getattr(model, "generation_config", None) or model.config.get_text_config()
    named = (tokenizer.eos_token_id, getattr(generation, "eos_token_id", None))
    for value in (*named, end_of_turn(tokenizer)):
        for token in value if isinstance(value, list) else [value]:
            if token is not None and token not in found:
                found.append(int(token))
    return tuple(found)
