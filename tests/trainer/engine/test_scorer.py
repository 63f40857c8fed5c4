"""Score heads: what plain transformers loads and scores, padding that is an end token, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
)

from tests.trainer.engine.support import make_policy
from trainer.engine.forward import Sequences, micro_batches
from trainer.engine.load import folder_load, policy_make
from trainer.engine.scorer import (
    answer_scores,
    is_scorer,
    outputs_check,
    outputs_of,
    plain_scores,
    scorer_make,
)
from trainer.spec import Model

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.policy import Policy

CPU = torch.device("cpu")
END = 1


@pytest.fixture
def sequences() -> Sequences:
    """Answers of several lengths, three of them behind one prompt, each with its end token."""
    answers = [[7, 8, END], [9, END], [3, END], [10, 3, 3, 5, END], [END]]
    return Sequences([[3, 4, 5], [6], [8, 9]], answers, [0, 0, 1, 2, 0])


def scorer(*names: str, seed: int = 0, **options: Any) -> Policy:
    policy = make_policy(**options)
    scorer_make(policy, names or ("reward",), seed)
    return policy


def saved(policy: Policy, folder: Path) -> str:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return str(folder)


def scores(policy: Policy, sequences: Sequences, **how: Any) -> torch.Tensor:
    with torch.no_grad():
        return answer_scores(policy, sequences, range(len(sequences.answers)), **how)


def alone(model: Any, sequences: Sequences) -> torch.Tensor:
    """What transformers gives for each sequence by itself."""
    found = []
    with torch.no_grad():
        for answer, prompt in enumerate(sequences.prompt_of):
            ids = sequences.prompts[prompt] + sequences.answers[answer]
            found.append(model(input_ids=torch.tensor([ids])).logits[0])
    return torch.stack(found)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("names", [("reward",), ("helpful", "honest", "short")])
def test_plain_transformers_loads_a_scorer_and_gives_its_scores(
    tmp_path: Path, sequences: Sequences, tied: bool, names: tuple[str, ...]
) -> None:
    policy = scorer(*names, tied=tied)
    folder = saved(policy, tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    assert type(model) is LlamaForSequenceClassification
    assert [model.config.id2label[i] for i in range(model.config.num_labels)] == list(names)
    assert model.config.problem_type == "regression"
    wanted = alone(model, sequences)
    assert wanted.shape == (5, len(names)) and float(wanted.std()) > 0
    assert torch.allclose(scores(policy, sequences), wanted, atol=1e-6)
    # Padded on either side in one batch, as a user would.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = [sequences.prompts[p] + sequences.answers[a] for a, p in enumerate(sequences.prompt_of)]
    for side in ("left", "right"):
        batch = tokenizer.pad({"input_ids": whole}, padding_side=side, return_tensors="pt")
        with torch.no_grad():
            assert torch.allclose(model(**batch).logits, wanted, atol=1e-6), side


def test_shared_and_packed_rows_score_like_single_ones(sequences: Sequences) -> None:
    policy = scorer("a", "b")
    assert policy.shared_prefix
    wanted = alone(policy.model, sequences)
    for shared in (True, False):
        policy.shared_prefix = shared
        assert torch.allclose(scores(policy, sequences), wanted, atol=1e-6)
        (rows,) = micro_batches(sequences, range(5), budget=1 << 30, shared=shared, packed=True)
        assert torch.allclose(scores(policy, sequences, rows=rows), wanted, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(plain_scores(policy, sequences, range(5)), wanted, atol=1e-6)


def test_the_head_computes_in_full_precision(sequences: Sequences) -> None:
    policy = scorer()
    full = scores(policy, sequences)
    policy.dtype = torch.bfloat16
    half = scores(policy, sequences)
    assert half.dtype is torch.float32 and not torch.equal(half, half.bfloat16().float())
    assert not torch.equal(half, full) and torch.allclose(half, full, atol=0.05)


def test_the_answers_come_in_the_order_they_were_asked_for(sequences: Sequences) -> None:
    policy = scorer()
    with torch.no_grad():
        turned = answer_scores(policy, sequences, [3, 0, 4])
    assert torch.allclose(turned, scores(policy, sequences)[[3, 0, 4]], atol=1e-6)


def test_the_head_is_small_and_a_function_of_the_seed() -> None:
    one, same, other = (scorer(seed=seed).model.score.weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert 0.01 < one.std().item() < 0.03 and one.requires_grad
    before = torch.get_rng_state()
    scorer(seed=3)
    assert torch.equal(before, torch.get_rng_state()), "no other draw moves"


def test_every_weight_is_trained_and_counted() -> None:
    causal = make_policy()
    trunk = {name for name, _ in causal.parameters() if not name.startswith("lm_head")}
    scorer_make(causal, ("reward",), 0)
    assert {name for name, _ in causal.parameters()} == trunk | {"score.weight"}
    assert causal.parameter_count() > 0
    assert not hasattr(causal.model, "lm_head")


def test_a_saved_scorer_is_taken_up_with_its_head(tmp_path: Path, sequences: Sequences) -> None:
    policy = scorer("a", "b")
    wanted = scores(policy, sequences)
    again = policy_make(*folder_load(saved(policy, tmp_path), Model()), CPU, "float32")
    assert is_scorer(again.model) and outputs_of(again.model) == ("a", "b")
    assert (again.eos_ids, again.pad_id) == (policy.eos_ids, policy.pad_id)
    assert torch.equal(scores(again, sequences), wanted)


def test_several_end_tokens_survive_saving(tmp_path: Path) -> None:
    policy = make_policy()
    policy.model.generation_config.eos_token_id = [1, 5]
    policy = policy_make(policy.model, policy.tokenizer, CPU, "float32")
    assert policy.eos_ids == (1, 5)
    scorer_make(policy, ("reward",), 0)
    again = policy_make(*folder_load(saved(policy, tmp_path), Model()), CPU, "float32")
    assert again.eos_ids == (1, 5)


def test_padding_that_is_the_end_token_does_not_hide_the_end(
    tmp_path: Path, sequences: Sequences
) -> None:
    policy = make_policy()
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    policy = policy_make(policy.model, policy.tokenizer, CPU, "float32")
    assert policy.pad_id == END
    scorer_make(policy, ("reward",), 0)
    assert policy.pad_id not in policy.eos_ids
    (remark,) = policy.remarks
    assert "pads with the end token <eos>; the reward model pads with <" in remark
    folder = saved(policy, tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    assert model.config.pad_token_id == policy.pad_id
    assert AutoTokenizer.from_pretrained(folder).pad_token_id == policy.pad_id
    assert torch.allclose(scores(policy, sequences), alone(model, sequences), atol=1e-6)
    # The trap itself: read with the end token as padding, the score is that of the token before it.
    model.config.pad_token_id = END
    assert not torch.allclose(scores(policy, sequences), alone(model, sequences), atol=1e-4)


def test_a_tokenizer_without_any_other_special_token_is_refused() -> None:
    policy = make_policy()
    policy.pad_id = END

    class Bare:
        """The tokenizer, of which only the end token is special."""

        all_special_ids = (END,)
        added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012
        unk_token_id = None

    policy.tokenizer = Bare()
    with pytest.raises(ValueError, match="pads with its end token and has no other special token"):
        scorer_make(policy, ("reward",), 0)


def test_a_model_of_another_architecture_gets_a_head_too(sequences: Sequences) -> None:
    config = GPT2Config(vocab_size=19, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=1,
                        bos_token_id=None)  # fmt: skip
    torch.manual_seed(0)
    policy = policy_make(GPT2LMHeadModel(config), make_policy().tokenizer, CPU, "float32")
    scorer_make(policy, ("reward",), 0)
    assert torch.allclose(scores(policy, sequences), alone(policy.model, sequences), atol=1e-5)


def test_other_outputs_than_the_data_needs_are_refused() -> None:
    model = scorer("a", "b").model
    outputs_check(model, ("a", "b"))
    with pytest.raises(ValueError, match=r"has 2 outputs \(a, b\), the data needs 1 \(reward\)"):
        outputs_check(model, ("reward",))
    with pytest.raises(ValueError, match="scores a, b, but the data rates a, c"):
        outputs_check(model, ("a", "c"))
    one = scorer("rating").model
    outputs_check(one, ("reward",))
    assert outputs_of(one) == ("reward",), "one output is one score: ratings may prepare for pairs"


def test_a_classifier_that_is_not_read_at_the_last_token_is_refused(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=19, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    make_policy().tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertForSequenceClassification ends neither in a vocab"):
        policy_make(*folder_load(str(tmp_path), Model()), CPU, "float32")
