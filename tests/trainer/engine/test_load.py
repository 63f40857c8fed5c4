"""Models of other shapes, real folders, byte-pair tokenizers and chat."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from tests.trainer.engine.support import CHARACTERS, KINDS, make_policy
from trainer.engine.encode import answers_encode, prompts_encode
from trainer.engine.load import folder_load, policy_make, starter_build
from trainer.spec import Model

SMALL = {"vocab_size": 19, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL, intermediate_size=64),
    "qwen3": lambda: transformers.Qwen3Config(
        **SMALL, intermediate_size=64, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=19,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        resid_pdrop=0.2,
        embd_pdrop=0.2,
    ),
    "gemma2": lambda: transformers.Gemma2Config(
        **SMALL, intermediate_size=64, num_key_value_heads=1, head_dim=16, sliding_window=4
    ),
    "cohere": lambda: transformers.CohereConfig(**SMALL, intermediate_size=64, logit_scale=0.5),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_local_folder_of_another_architecture_trains_like_any_other(runs, tmp_path, name):
    torch.manual_seed(0)
    config = MODELS[name]()
    config.eos_token_id, config.pad_token_id, config.bos_token_id = 1, 0, None
    model = transformers.AutoModelForCausalLM.from_config(config)
    _, tokenizer = starter_build(Model(), CHARACTERS, [], 0)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    options = [f"model.name={folder}", "model.options={}"]
    for kind in ("grpo", "dpo"):
        assert runs.run(kind, *KINDS[kind], *options) == 0
    values = runs.metrics("grpo")
    assert values[1, "rollout/logp_diff_max"] < 1e-5
    assert values[1, "clip_ratio/region_mean"] == 0
    assert runs.metrics("dpo")[1, "rewards/margins"] == 0
    transformers.AutoModelForCausalLM.from_pretrained(runs.dir("grpo").checkpoint(6))


def test_fast_paths_are_taken_only_where_they_are_right():
    _, tokenizer = starter_build(Model(), CHARACTERS, [], 0)
    found = {}
    for name, config in MODELS.items():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config())
        policy = policy_make(model, tokenizer, torch.device("cpu"), "float32")
        found[name] = (policy.compact_head, policy.shared_prefix)
    assert found["llama"] == found["qwen3"] == found["gpt2"] == (True, True)
    assert found["gemma2"][1] is False  # its window is shorter than a row
    # Its logits are scaled behind the output layer.
    assert found["cohere"][0] is False


def test_a_byte_pair_starter_trains(runs):
    options = ["model.options.tokenizer=bpe", "model.options.vocab_size=300"]
    assert runs.run("run", *KINDS["grpo"], *options) == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(runs.dir("run").checkpoint(6))
    assert tokenizer.decode(tokenizer("sort é 5 = ")["input_ids"]) == "sort é 5 = "


def test_a_prompt_alone_is_encoded_as_before_its_answer():
    policy = make_policy()
    (prompt,) = prompts_encode(policy, ["sort 314 = "])
    (answer,) = answers_encode(policy, ["sort 314 = "], ["134"])
    assert policy.tokenizer.decode(prompt) == "sort 314 = "
    assert policy.tokenizer.decode(answer[:-1]) == "134" and answer[-1] in policy.eos_ids


TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def test_chat_goes_through_the_template_and_answers_end_once():
    policy = make_policy()
    model, tokenizer = starter_build(Model(), "usa:0123456789", [], 0)
    policy = policy_make(model, tokenizer, torch.device("cpu"), "float32")
    policy.tokenizer.chat_template = TEMPLATE
    chat = [{"role": "user", "content": "12"}]
    (prompt,) = prompts_encode(policy, [chat])
    assert policy.tokenizer.decode(prompt) == "u:12<eos>a:"
    for answer in ("34", [{"role": "assistant", "content": "34"}]):
        (ids,) = answers_encode(policy, [chat], [answer])
        assert policy.tokenizer.decode(ids) == "34<eos>"


def test_chat_without_a_template_is_refused(runs, tmp_path, capsys):
    path = tmp_path / "chat.jsonl"
    row = {"prompt": [{"role": "user", "content": "12"}], "completion": "21"}
    path.write_text(json.dumps(row) + "\n")
    data = ["data.train.0.options={}", f"data.train.0.source={path}", "data.eval=[]"]
    assert runs.run("run", *KINDS["sft"], *data) == 2
    assert "chat template" in capsys.readouterr().err


def test_an_end_token_of_the_generation_config_counts():
    policy = make_policy()
    policy.model.generation_config.eos_token_id = [1, 7]
    again = policy_make(policy.model, policy.tokenizer, torch.device("cpu"), "float32")
    assert again.eos_ids == (1, 7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_lower_precision_leaves_the_weights_in_float32(runs, dtype):
    assert runs.run("run", *KINDS["grpo"], f"model.dtype={dtype}") == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(runs.dir("run").checkpoint(6))
    assert model.dtype is torch.float32
    assert runs.metrics("run")[1, "rollout/logp_diff_mean"] < (
        0.05 if dtype == "bfloat16" else 1e-5
    )


def test_loaded_weights_lie_as_aligned_as_new_ones(tmp_path):
    # Mapped from a file they would not, and a resumed run would differ in the last bit.
    model, tokenizer = starter_build(Model(), CHARACTERS, [], 0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = folder_load(str(tmp_path), Model())
    assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.parameters())


def test_a_folder_without_a_tokenizer_is_told_so(tmp_path):
    model = transformers.AutoModelForCausalLM.from_config(MODELS["llama"]())
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.name: cannot load .*: it holds no tokenizer"):
        folder_load(str(tmp_path), Model())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot load") as caught:
        folder_load(str(tmp_path), Model())
    assert "no tokenizer" not in str(caught.value)
