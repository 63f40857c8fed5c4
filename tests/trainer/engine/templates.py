"""Chat templates with the structure of three families, and tiny tokenizers and policies to go with them.

The wording is our own; what matters is the structure: where BOS stands, which token ends a turn, what
happens to the system message and to the thoughts of earlier turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.engine.load import policy_make

if TYPE_CHECKING:
    from trainer.engine.policy import Policy

CHATML = """\
{%- if messages[0]['role'] != 'system' -%}
<|im_start|>system
Be brief and right.<|im_end|>
{% endif -%}
{%- set ns = namespace(query=-1) -%}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}{%- set ns.query = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
{%- set text = m['content'] -%}
{%- if m['role'] == 'assistant' and loop.index0 < ns.query and '</think>' in text -%}
{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>' + m['role'] + '\\n' -}}
GENERATION_START{{- text + '<|im_end|>' -}}GENERATION_END
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""ChatML as Qwen has it: a system message where none is given, thoughts of earlier turns stripped."""

HEADERS = """\
{{- bos_token -}}
{%- for m in messages -%}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}
GENERATION_START{{- m['content'] | trim + '<|eot_id|>' -}}GENERATION_END
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""
"""Headers as Llama 3 has them: BOS from the template, turns end with another token than texts."""

TURNS = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}
{{- raise_exception('a system message has no place here') -}}
{%- endif -%}
{%- for m in messages -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('user and assistant must take turns') -}}
{%- endif -%}
{{- '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' -}}
GENERATION_START{{- m['content'] | trim + '<end_of_turn>' -}}GENERATION_END
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""
"""Turns as Gemma has them: the assistant is called model, no system message, strict alternation."""

THINKING = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m['role'] == 'assistant' -%}
{{- '<|assistant|>' + m['content'].split('</think>')[-1].lstrip() + '<|end|>' -}}
{%- else -%}{{- '<|' + m['role'] + '|>' + m['content'] -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|><think>\\n' -}}{%- endif -%}
"""
"""Its generation prompt opens a thought, and it never shows one."""

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen": {
        "template": CHATML,
        "special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "plain": ["<think>", "</think>"],
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "stop": "<|im_end|>",
    },
    "llama": {
        "template": HEADERS,
        "special": [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
        "stop": "<|eot_id|>",
    },
    "gemma": {
        "template": TURNS,
        "special": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        "bos": "<bos>",
        "eos": "<eos>",
        "pad": "<pad>",
        "stop": "<end_of_turn>",
    },
    "thinking": {
        "template": THINKING,
        "special": ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"],
        "plain": ["<think>", "</think>"],
        "bos": "<|begin|>",
        "eos": "<|end|>",
        "stop": "<|end|>",
    },
}
TEXTS = [
    "the answer is four because two and two make four",
    "what is two plus two? what is the sum of three and five?",
    "user system assistant model be brief and right",
]


def untagged(template: str) -> str:
    return template.replace("GENERATION_START", "").replace("GENERATION_END", "")


def tagged(template: str) -> str:
    """With the assistant's words between generation tags."""
    start, end = "GENERATION_START{{-", "-}}GENERATION_END"
    head, rest = template.split(start)
    words, tail = rest.split(end)
    words = "{{-" + words + "-}}"
    return (
        f"{head}{{%- if m['role'] == 'assistant' -%}}{{%- generation -%}}{words}{{%- endgeneration -%}}"
        f"{{%- else -%}}{words}{{%- endif -%}}{tail}"
    )


def byte_level(special: list[str]) -> Tokenizer:
    """Byte-level BPE, as Qwen and Llama 3 have it."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    return inner


def spaced(special: list[str], scheme: str) -> Tokenizer:
    """SentencePiece's way, as Llama 2 and Mistral have it: spaces are marks, and one stands before a text.

    `scheme` "first" puts it before the first piece only, "always" behind every special token too.
    """
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    spaces = decoders.Replace("\u2581", " ")
    inner.decoder = decoders.Sequence(
        [spaces, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = sorted(set("".join(TEXTS)) - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=["\u2581", *letters],
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    return inner


def make_tokenizer(name: str, *, tags: bool = False, scheme: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer with the family's special tokens; BOS comes from its post-processor too.

    Byte-level, or with a `scheme` that puts a space before texts.
    """
    family = FAMILIES[name]
    inner = spaced(family["special"], scheme) if scheme else byte_level(family["special"])
    inner.add_tokens(family.get("plain", []))
    bos = family.get("bos")
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    names = {"bos_token": bos, "eos_token": family["eos"], "pad_token": family.get("pad")}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, **{key: value for key, value in names.items() if value}
    )
    template = family["template"]
    tokenizer.chat_template = tagged(template) if tags else untagged(template)
    return tokenizer


def make_chat_policy(name: str, *, tags: bool = False, seed: int = 0, scheme: str = "") -> Policy:
    tokenizer = make_tokenizer(name, tags=tags, scheme=scheme)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return policy_make(model, tokenizer, torch.device("cpu"), "float32")


def chat(*contents: str, system: str = "") -> list[dict[str, str]]:
    """User and assistant by turns."""
    start = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return start + [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
