"""The recipe book."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.recipebook import FOLDER, recipe_find, recipe_read, recipes
from trainer.spec import spec_parse

if TYPE_CHECKING:
    from pathlib import Path

CARD = """\
# title: Sums
# shows: one thing,
#   and another
# takes: 90 s on one CPU thread
# needs: nothing
# rank: 3
#
# Not part of the card.

[model]
name = "starter"
"""


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_every_shipped_recipe_is_a_valid_spec_with_a_card(recipe) -> None:  # type: ignore[no-untyped-def]
    spec = spec_parse(recipe.spec)
    assert spec.name
    assert recipe.title != recipe.name and recipe.summary and recipe.needs
    assert recipe.minutes_hint > 0, f"{recipe.path}: takes says no time"
    if spec.model.warm_start:
        spec_parse(recipe_read(recipe_find(spec.model.warm_start)).spec)


def test_the_card_is_read_from_the_comments_at_the_top(tmp_path: Path) -> None:
    path = tmp_path / "sums.toml"
    path.write_text(CARD)
    recipe = recipe_read(path)
    assert (recipe.name, recipe.title, recipe.rank) == ("sums", "Sums", 3)
    assert recipe.summary == "one thing, and another"
    assert recipe.minutes_hint == 1.5
    assert recipe.needs == "nothing"
    assert recipe.spec == {"model": {"name": "starter"}}
    assert recipe.missing == ""


def test_a_recipe_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "two_words.toml").write_text(CARD)
    for name in ("two_words", "two-words", "two_words.toml"):
        assert recipe_find(name, tmp_path) == tmp_path / "two_words.toml"
    assert recipe_find(str(tmp_path / "two_words.toml")) == tmp_path / "two_words.toml"
    with pytest.raises(ValueError, match="no such recipe or file; the recipes are two_words"):
        recipe_find("three", tmp_path)


def test_a_faulty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(ValueError, match=r"bad\.toml: not TOML"):
        recipes(tmp_path)


def test_a_card_says_what_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANNEAL_GSM8K_DIR", raising=False)
    source = '[[data.train]]\nsource = "${ANNEAL_GSM8K_DIR}/*train.jsonl"\n'
    (tmp_path / "base.toml").write_text(source)
    (tmp_path / "above.toml").write_text('[model]\nwarm_start = "base"\n')
    found = {recipe.name: recipe for recipe in recipes(tmp_path)}
    assert "ANNEAL_GSM8K_DIR is not set; download" in found["base"].missing
    assert found["above"].missing == found["base"].missing
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ANNEAL_GSM8K_DIR", str(tmp_path / "data"))
    assert "no such file" in recipe_read(tmp_path / "base.toml").missing
    (tmp_path / "data" / "gsm8k_train.jsonl").touch()
    assert recipe_read(tmp_path / "base.toml").missing == ""


def test_the_shipped_folder_is_the_default() -> None:
    assert FOLDER.name == "recipes"
    assert FOLDER.is_dir()
