"""The starter model: a tiny Llama and a tokenizer, both made on the spot from the data's characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIAL = [PAD, EOS, UNKNOWN]


@dataclass(frozen=True)
class Shape:
    """Shape of a model made on the spot; 0.65 million weights unless set."""

    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    intermediate_size: int = 0
    """Width of the feed-forward layers; 0 is three times `hidden_size`."""
    max_positions: int = 2048
    tied: bool = True
    """Input and output embeddings are one matrix."""
    tokenizer: str = "characters"
    vocab_size: int = 1024
    """Size of a "bpe" vocabulary."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Shape:
        """Raises ValueError that names an unknown option or a value that cannot be."""
        unknown = sorted(set(options) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"model.options: unknown {', '.join(unknown)}; known are {known}")
        for key, value in options.items():
            wanted = type(getattr(cls, key))
            if type(value) is not wanted:
                raise ValueError(
                    f"model.options.{key}: {value!r} must be of type {wanted.__name__}"
                )
        shape = cls(**options)
        if min(shape.hidden_size, shape.layers, shape.heads, shape.max_positions) < 1:
            raise ValueError("model.options: sizes must be 1 or more")
        if shape.hidden_size % (2 * shape.heads):
            raise ValueError(
                f"model.options: hidden_size {shape.hidden_size} must be a multiple of 2 x heads"
            )
        if shape.tokenizer not in {"characters", "bpe"}:
            raise ValueError('model.options.tokenizer: must be "characters" or "bpe"')
        return shape


def starter_tokenizer(
    shape: Shape, characters: str, texts: Iterable[str]
) -> PreTrainedTokenizerFast:
    """A character tokenizer over `characters`, or a byte-pair one trained on `texts`."""
    if shape.tokenizer == "bpe":
        inner = Tokenizer(models.BPE(unk_token=None))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=shape.vocab_size,
                special_tokens=SPECIAL,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
    else:
        symbols = SPECIAL + sorted(set(characters))
        vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=shape.max_positions,
    )


def starter_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """New weights, a pure function of the shape, the vocabulary and the seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size or 3 * shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    # Sampling of this model without limits would follow these; they are saved with it.
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
