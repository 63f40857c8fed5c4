"""A causal language model, or a reward model, with what sampling and training need to know about it.

Legend: R rows, T row tokens, H hidden size.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.generation import Native

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.engine.generation import Generator


THOUGHT_TAGS = ("<think>", "</think>")


@dataclass
class Policy:
    """A model, its tokenizer, and the facts that were probed once."""

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype = torch.float32
    """Precision of the arithmetic; the weights are float32 always."""
    stored_dtype: str = "float32"
    """Precision in which the start model was stored: what an export may go back to."""
    base_name: str = ""
    """Hub id or folder of the base that an adapter is for."""
    base_folder: Path | None = None
    """A copy of that base, where it was made on the spot."""
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0
    shared_prefix: bool = False
    """Several answers may share one copy of their prompt in a training row."""
    remarks: list[str] = field(default_factory=list)
    """What was changed about the model while it was loaded, in sentences for people."""
    compact_head: bool = False
    """The output layer may be applied to scored positions alone."""
    hidden_states_of: Callable[..., torch.Tensor] | None = None
    """How a model that is divided among ranks gives last hidden states (`sharding`)."""
    version: int = 0
    """Counts the optimizer steps of this process: whoever holds a copy of the weights sees that it is old."""
    generator: Generator = field(init=False, repr=False)
    """What samples from it: the native engine, until another one is put here."""
    keeps_logits: bool = field(init=False)

    def __post_init__(self) -> None:
        self.generator = Native(self)
        self.keeps_logits = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @property
    def vocabulary(self) -> int:
        """Width of the output layer."""
        return int(self.model.config.get_text_config().vocab_size)

    @cached_property
    def window(self) -> int:
        """How many tokens the most short-sighted layers see; 0 where all see everything."""
        config = self.model.config.get_text_config()
        sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
        return min((size for size in sizes if isinstance(size, int) and size > 0), default=0)

    @cached_property
    def tokens(self) -> Mapping[str, int]:
        """Every token of the tokenizer and its id."""
        return dict(self.tokenizer.get_vocab())

    @cached_property
    def mute_ids(self) -> frozenset[int]:
        """Special tokens that are no part of an answer's text: all but the tags of thoughts."""
        added = self.tokenizer.added_tokens_decoder
        special = {index for index, token in added.items() if token.special}
        special |= set(self.tokenizer.all_special_ids)
        return frozenset(special - {self.tokens.get(tag, -1) for tag in THOUGHT_TAGS})

    @cached_property
    def spaces_texts(self) -> bool:
        """Whether the tokenizer puts a space before whatever it is given, as SentencePiece does."""

        def ids(text: str) -> list[int]:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

        return ids("\na") != ids("\n") + ids("a")

    def autocast(self) -> AbstractContextManager[Any]:
        """Lower precision where it was asked for."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def hidden_RTH(
        self, ids_RT: torch.Tensor, position_RT: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Last hidden states; without a mask attention is causal."""
        inputs = {
            "input_ids": ids_RT,
            "position_ids": position_RT,
            "attention_mask": mask,
            "use_cache": False,
        }
        if self.hidden_states_of is not None:
            return self.hidden_states_of(**inputs)
        return self.model.base_model(**inputs).last_hidden_state

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states."""
        return self.model.get_output_embeddings()(hidden)

    def mask_for_attention(self, allowed: torch.Tensor) -> torch.Tensor:
        """A mask (R, 1, T, T) for the model from one of booleans."""
        if getattr(self.model.config, "_attn_implementation", "") == "sdpa":
            return allowed
        # Eager attention adds the mask: a boolean one would give wrong logits without an error.
        lowest = torch.finfo(self.dtype).min
        return torch.zeros_like(allowed, dtype=self.dtype).masked_fill(~allowed, lowest)

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Trained parameters by name, tied ones once."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def parameter_count(self) -> int:
        """Weights, embeddings left out: what the arithmetic of a token is proportional to."""
        embedding = self.model.get_input_embeddings()
        total = sum(p.numel() for p in self.model.parameters())
        output = self.model.get_output_embeddings()
        # A reward model has no output embedding: all but a sliver of its arithmetic is the trunk's.
        tied = output is not None and output.weight is embedding.weight
        return total if tied else total - embedding.weight.numel()
