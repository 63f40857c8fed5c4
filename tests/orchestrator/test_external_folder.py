"""What a model's folder says of itself, and what is missing in one that holds none."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest

from orchestrator.external_folder import folder_look, identity_of
from tests.orchestrator.model_folder import model_write, weights_write


def test_a_language_model_tells_its_size_vocabulary_and_tokenizer(tmp_path):
    folder = model_write(tmp_path / "m")
    looked = folder_look(folder)
    assert looked.sha256 == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    assert looked.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert looked.facts == {
        "told_by": "config.json",
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "vocab_size": 64,
        "layers": 2,
        "hidden_size": 8,
        "positions": 128,
        "dtype": "float32",
        "parameters": 8 * 64 + 8,
        "tokenizer": "PreTrainedTokenizerFast",
        "tokens": 11,
        "chat_template": True,
        "own_code": False,
    }


def test_a_manifest_tells_it_from_others_where_there_is_one(tmp_path):
    folder = model_write(tmp_path / "m")
    (folder / "manifest.json").write_text('{"files": {}}')
    name, sha256 = identity_of(folder)
    assert (name, sha256) == ("manifest.json", hashlib.sha256(b'{"files": {}}').hexdigest())
    assert folder_look(folder).sha256 == sha256


def test_an_adapter_needs_no_tokenizer_of_its_own(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "NAME/BASE"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    weights_write(folder / "adapter_model.safetensors", {"lora_A": [4, 8]})
    facts = folder_look(folder).facts
    assert (facts["adapter"], facts["base"], facts["parameters"]) == ("LORA", "NAME/BASE", 32)


def test_a_reward_model_names_its_outputs_and_its_code_is_told_of(tmp_path):
    folder = model_write(
        tmp_path / "r",
        architectures=["LlamaForSequenceClassification"],
        id2label={"0": "helpful"},
        auto_map={"AutoModel": "modeling.Model"},
    )
    facts = folder_look(folder).facts
    assert (facts["outputs"], facts["own_code"]) == (["helpful"], True)


def test_what_it_was_merged_from_is_known(tmp_path):
    folder = model_write(tmp_path / "m")
    parents = [{"sha256": "a" * 64, "step": 40}, {"sha256": "short"}, "nonsense"]
    (folder / "merged.json").write_text(json.dumps({"parents": parents}))
    assert folder_look(folder).facts["parents"] == ["a" * 64]


def broken(folder, name, text):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no model: it has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer: none of"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"holds no weights \(\*.safetens"),
        (lambda folder: broken(folder, "config.json", "{"), "config.json cannot be read"),
        (lambda folder: broken(folder, "config.json", "[1]"), "config.json holds no JSON object"),
        (lambda folder: broken(folder, "model.safetensors", "x"), "is no safetensors file"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60)),
            "its head is too long",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_said(tmp_path, spoil, sentence):
    folder = model_write(tmp_path / "m")
    spoil(folder)
    with pytest.raises(ValueError, match=sentence):
        folder_look(folder)


def test_pickled_weights_are_named_and_not_opened(tmp_path):
    folder = model_write(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin may hold code and is not read"):
        folder_look(folder)


def test_no_folder_says_so(tmp_path):
    with pytest.raises(ValueError, match="is not there"):
        folder_look(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        folder_look(tmp_path / "file")


@pytest.mark.parametrize(
    "config",
    [
        {"vocab_size": "many", "architectures": "x", "auto_map": 3, "id2label": []},
        {"architectures": [], "text_config": [1], "vocab_size": -4, "dtype": {"a": 1}},
        {"architectures": [7], "text_config": {"vocab_size": 9}},
    ],
)
def test_odd_facts_are_left_out(tmp_path, config):
    facts = folder_look(model_write(tmp_path / "m", **config)).facts
    assert facts.get("vocab_size") in (None, 9)
    assert json.dumps(facts, allow_nan=False)
