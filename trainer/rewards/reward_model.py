"""Reward model: the score of a trained model, read at the last token of the answer (arXiv 2203.02155, 3.5)."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from trainer.registry import Answer, Reward, reward_folder

log = logging.getLogger(__name__)


class RewardModel(Reward):
    """Score answers with a reward model, such as a run with bradley-terry or rating-regression leaves."""

    type: Literal["reward-model"] = "reward-model"
    at_once: ClassVar[int] = 32

    model: str = Field(
        min_length=1, max_length=1000, json_schema_extra={"basic": True, "names_model": True}
    )
    """The reward model: `run:ID` (waits for the final checkpoint of a run that trains one), `checkpoint:ID`,
    `external:ID`, its folder (a checkpoint of ours, or any sequence classifier of transformers that is
    read at its last token) or its hub id. Policies whose tokenizer has the same tokens are scored token by
    token as they wrote; answers of others are encoded again from their text."""
    outputs: dict[str, float] = Field(default_factory=dict)
    """Weight of each output, by name or by number, of a model with several: the score is their sum.
    Empty takes the only output. Healthy: 1 for what is wanted, negative for what is not."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the reward model computes. Healthy: cpu for tiny models, cuda where its memory allows."""
    content: str = Field("", max_length=64, json_schema_extra={"noted": True})
    """Which files `model` stood for, as comparisons note it for a folder and for `external:ID`: scores by other
    files count as those of another scorer."""

    def prepare(self) -> None:
        """Load the model. Raises ValueError where it cannot be, or lacks a named output."""
        self._weights(self._loaded().model.config)

    def score(self, answer: Answer) -> float | None:
        """The weighted sum of the model's outputs; None for an answer that is too long for it."""
        return self.scores([answer])[0]

    def scores(self, answers: Sequence[Answer]) -> list[float | None]:
        """The same of several answers, in one forward pass."""
        import torch

        scorer = self._loaded()
        weight_K = torch.tensor(self._weights(scorer.model.config))
        ids = [scorer.encode(answer) for answer in answers]
        fitting = [i for i, tokens in enumerate(ids) if 0 < len(tokens) <= scorer.room]
        found: list[float | None] = [None] * len(answers)
        # Without a padding token of its own a model reads the last cell: one answer at a time.
        size = len(fitting) if scorer.pad_id is not None else 1
        for first in range(0, len(fitting), size or 1):
            some = fitting[first : first + size]
            total_B = scorer.forward([ids[i] for i in some]) @ weight_K
            for place, total in zip(some, total_B.tolist(), strict=True):
                found[place] = total
        return found

    def _loaded(self) -> "_Scorer":
        return _scorer(reward_folder(self.model), self.device)

    def _weights(self, config: Any) -> list[float]:
        names = [str(config.id2label[index]) for index in range(config.num_labels)]
        if not self.outputs:
            if len(names) == 1:
                return [1.0]
            raise ValueError(
                f"rewards: {self.model} has the outputs {', '.join(names)}; say in outputs what each weighs"
            )
        weights = dict.fromkeys(names, 0.0)
        for name, weight in self.outputs.items():
            known = names[int(name)] if name.isdecimal() and int(name) < len(names) else name
            if known not in weights:
                raise ValueError(
                    f"rewards: {self.model} has no output '{name}'; it has {', '.join(names)}"
                )
            weights[known] += weight
        return list(weights.values())


@cache
def _scorer(name: str, device: str) -> "_Scorer":
    return _Scorer(name, device)


class _Scorer:
    """A reward model in memory."""

    def __init__(self, name: str, device: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(name).expanduser()
        looks_like_a_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
        if looks_like_a_path and not (folder / "config.json").is_file():
            raise ValueError(f"rewards: {name} holds no model (no config.json)")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError('rewards: device is "cuda", but this machine has no usable GPU')
        place = str(folder) if folder.is_dir() else name
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(place)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                place, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"rewards: cannot load {name}: {reason}") from error
        if report["missing_keys"]:
            # A language model loads too, with a score head of random numbers.
            raise ValueError(
                f"rewards: {name} is no reward model: it has no {sorted(report['missing_keys'])[0]}"
            )
        for parameter in model.parameters():
            # Out of the mapped file: a matrix product's last bit depends on how memory is aligned.
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        config = model.config.get_text_config()
        self.pad_id: int | None = config.pad_token_id
        self.room: int = getattr(config, "max_position_embeddings", None) or 1 << 30
        self._vocabulary: Mapping[str, int] = self.tokenizer.get_vocab()
        self._compared: tuple[Mapping[str, int], bool] | None = None
        self._name = name

    def forward(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Scores (B, K) on the CPU, as plain transformers gives them."""
        import torch

        width = max(len(ids) for ids in sequences)
        pad = self.pad_id or 0
        ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in sequences])
        length_B = torch.tensor([len(ids) for ids in sequences])
        mask_BT = (torch.arange(width)[None, :] < length_B[:, None]).long()
        with torch.no_grad():
            logits_BK = self.model(
                input_ids=ids_BT.to(self.device), attention_mask=mask_BT.to(self.device)
            ).logits
        return logits_BK.float().cpu()

    def encode(self, answer: Answer) -> list[int]:
        """Tokens of prompt and answer: those of the policy where they mean the same here."""
        if answer.token_ids and self._same(answer.vocabulary):
            return [*answer.prompt_ids, *answer.token_ids]
        prompt = answer.row.get("prompt")
        if isinstance(prompt, list) and getattr(self.tokenizer, "chat_template", None):
            messages = [*prompt, {"role": "assistant", "content": answer.text}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = list(self.tokenizer(answer.prompt)["input_ids"])
        end = self.tokenizer.eos_token_id
        # Some tokenizers end every text; this one goes on.
        ids = ids[:-1] if len(ids) > 1 and ids[-1] == end else ids
        ids += self.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        return [*ids, end] if answer.finish_reason == "stop" and end is not None else ids

    def _same(self, vocabulary: Mapping[str, int]) -> bool:
        """Whether a policy's ids mean the same here; compared once, not for each answer."""
        if self._compared is None or self._compared[0] is not vocabulary:
            same = vocabulary == self._vocabulary
            if not same:
                log.warning(
                    "reward-model: %s has other tokens than the policy; answers are encoded again from "
                    "their text",
                    self._name,
                )
            self._compared = (vocabulary, same)
        return self._compared[1]
