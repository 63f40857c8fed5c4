"""Folders that look like models, written without any library."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "max_position_embeddings": 128,
    "dtype": "float32",
}
TOKENIZER = {
    "model": {"type": "WordLevel", "vocab": {str(number): number for number in range(10)}},
    "added_tokens": [{"id": 10, "content": "<s>"}, {"id": 3, "content": "3"}],
}


def weights_write(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of zeros."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def model_write(folder: Path, **config: Any) -> Path:
    """A language model with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    weights_write(folder / "model.safetensors", {"a.weight": [8, 64], "b.weight": [8]})
    return folder
