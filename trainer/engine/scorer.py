"""Reward models: a language model's trunk with a linear head, read at the last token of an answer.

A scorer is a sequence classifier of plain transformers and is saved as one. Transformers finds the last
token of a sequence by its id: the rightmost one that is not `config.pad_token_id`. A padding token that
is an end token as well would hide the end of every answer, so such a model gets another padding token.

Legend: B answers, T tokens (padded on the right), H hidden size, K outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification

from trainer.engine.forward import Sequences, hidden_states, micro_batches
from trainer.engine.probe import short_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.forward import Row
    from trainer.engine.policy import Policy

STANDARD_DEVIATION = 0.02
"""Of new weights, where the model's config does not name one."""


def is_scorer(model: Any) -> bool:
    """Whether a model ends in scores read at the last token, instead of a vocabulary."""
    return model.get_output_embeddings() is None and isinstance(
        getattr(model, "score", None), torch.nn.Module
    )


def outputs_of(model: Any) -> tuple[str, ...]:
    """The names of a scorer's outputs."""
    return tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))


def scorer_make(policy: Policy, names: Sequence[str], seed: int) -> None:
    """Replace the vocabulary of a language model by a new score head. Raises ValueError.

    The head is small and a pure function of the seed: first scores are near 0, as are their differences.
    """
    language_model = policy.model
    trunk, config = language_model.base_model, language_model.config
    _set_outputs(config, names)
    # Some models end their answers with several tokens; a classifier has no generation config to say so.
    config.eos_token_id = list(policy.eos_ids) if len(policy.eos_ids) > 1 else policy.eos_ids[0]
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ValueError(
            f"model.name: transformers has no sequence classifier for a {config.model_type} model"
        ) from error
    if type(model.base_model) is not type(trunk) or not is_scorer(model):
        raise ValueError(
            f"model.name: the sequence classifier of a {config.model_type} model is not its trunk and a "
            "score head"
        )
    setattr(model, model.base_model_prefix, trunk)
    model.config = config
    draw = torch.Generator().manual_seed(seed)
    deviation = getattr(config.get_text_config(), "initializer_range", None) or STANDARD_DEVIATION
    weight = deviation * torch.randn(len(names), model.score.in_features, generator=draw)
    model.score = torch.nn.Linear(model.score.in_features, len(names), bias=False, device="meta")
    model.score.weight = torch.nn.Parameter(weight.to(policy.device))
    policy.model = model.eval()
    scorer_ready(policy)


def _set_outputs(config: Any, names: Sequence[str]) -> None:
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression"


def outputs_check(model: Any, names: Sequence[str]) -> None:
    """Take a start model's score head for these outputs. Raises ValueError when it has others."""
    found = outputs_of(model)
    unnamed = all(name == f"LABEL_{index}" for index, name in enumerate(found))
    if len(found) != len(names):
        raise ValueError(
            f"model.name: this reward model has {len(found)} outputs ({', '.join(found)}), the data needs "
            f"{len(names)} ({', '.join(names)}); start from the language model, or change the data"
        )
    # One output is one score, whatever it was called: ratings may prepare a model for preferences.
    if len(names) > 1 and not unnamed and found != tuple(names):
        raise ValueError(
            f"model.name: this reward model scores {', '.join(found)}, but the data rates "
            f"{', '.join(names)}; give the qualities the same names"
        )
    _set_outputs(model.config, names)


def scorer_ready(policy: Policy) -> None:
    """See to the padding token of a scorer and find out its fast path. Raises ValueError."""
    if policy.pad_id in policy.eos_ids:
        end, policy.pad_id = policy.pad_id, _padding(policy)
        named = policy.tokenizer.convert_ids_to_tokens([end, policy.pad_id])
        policy.tokenizer.pad_token = named[1]
        policy.remarks.append(
            f"the tokenizer pads with the end token {named[0]}; the reward model pads with {named[1]}, so "
            "that transformers finds the end of an answer, where it is scored"
        )
    for config in (policy.model.config, policy.model.config.get_text_config()):
        config.pad_token_id = policy.pad_id
    _probe(policy)


def _padding(policy: Policy) -> int:
    """A special token that ends no answer: one made for padding, the unknown token, or any other."""
    tokenizer = policy.tokenizer
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    free = sorted(special - set(policy.eos_ids))
    if not free:
        raise ValueError(
            "model.name: this tokenizer pads with its end token and has no other special token; a reward "
            "model is read at the last token that is no padding, so add a padding token to the tokenizer"
        )
    padding = [i for i in free if "pad" in str(tokenizer.convert_ids_to_tokens(i)).lower()]
    unknown = [i for i in free if i == tokenizer.unk_token_id]
    return (padding or unknown or free)[0]


def answer_scores(
    policy: Policy, sequences: Sequences, wanted: Sequence[int], *, rows: list[Row] | None = None
) -> torch.Tensor:
    """Scores (B, K) of the wanted answers, with gradient where gradients are on."""
    last_BH = hidden_states(policy, sequences, wanted, rows=rows).last_BH
    # The head in full precision: it is one product per answer, and scores are compared.
    scores_BK: torch.Tensor = policy.model.score(last_BH.float())
    return scores_BK


def _probe(policy: Policy) -> None:
    """Compare with what plain transformers scores; set `shared_prefix` where it gives the same."""
    draw = torch.Generator().manual_seed(0)
    usable = [i for i in range(policy.vocabulary) if i != policy.pad_id]

    def tokens(count: int) -> list[int]:
        picks = torch.randint(len(usable), (count,), generator=draw).tolist()
        return [usable[i] for i in picks]

    # Two answers behind one prompt in the longest row, two documents in another: both need the mask.
    answers = [tokens(4), tokens(2), tokens(3), tokens(3)]
    sequences = Sequences([tokens(5), tokens(3), tokens(2)], answers, [0, 0, 1, 2])
    tolerance = 1e-4 if policy.dtype is torch.float32 else 0.1

    def fits(wanted_BK: torch.Tensor) -> bool:
        (rows,) = micro_batches(
            sequences, range(4), budget=1 << 62, shared=policy.shared_prefix, packed=True
        )
        error_BK = answer_scores(policy, sequences, range(4), rows=rows) - wanted_BK
        return bool((error_BK.abs() <= tolerance * wanted_BK.abs().max().clamp(min=1.0)).all())

    with torch.no_grad():
        wanted_BK = plain_scores(policy, sequences, range(4))
        policy.shared_prefix = False
        if not fits(wanted_BK):
            raise ValueError(
                "model.name: this sequence classifier is not read at the last token of its trunk"
            )
        policy.shared_prefix = True
        try:
            policy.shared_prefix = fits(wanted_BK) and not short_window(policy)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            policy.shared_prefix = False


def plain_scores(policy: Policy, sequences: Sequences, wanted: Sequence[int]) -> torch.Tensor:
    """Scores (B, K) as transformers itself gives them: whole sequences, padded on the right."""
    whole = [sequences.prompts[sequences.prompt_of[a]] + sequences.answers[a] for a in wanted]
    width = max(len(ids) for ids in whole)
    ids_BT = torch.tensor([ids + [policy.pad_id] * (width - len(ids)) for ids in whole])
    lengths = torch.tensor([len(ids) for ids in whole])
    mask_BT = (torch.arange(width)[None, :] < lengths[:, None]).long()
    with policy.autocast():
        logits_BK = policy.model(
            input_ids=ids_BT.to(policy.device), attention_mask=mask_BT.to(policy.device)
        ).logits
    return logits_BK.float()
