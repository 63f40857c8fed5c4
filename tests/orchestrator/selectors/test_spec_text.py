"""A spec as text, both ways."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.selectors.spec_text import TextError, Typed, spec_json, spec_read, spec_toml

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SPECS = st.dictionaries(KEYS.filter(lambda key: key != "spec"), VALUES, max_size=5)


@given(SPECS)
def test_what_it_writes_it_reads(raw: dict[str, Any]) -> None:
    assert spec_read(spec_json(raw)) == raw
    # The writer of TOML ends lines its own way; the form's texts do too.
    unix = json.loads(json.dumps(raw).replace("\\r\\n", "\\n"))
    assert spec_read(spec_toml(unix)) == unix


@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_a_sentence_with_a_line(text: str) -> None:
    try:
        assert isinstance(spec_read(text), dict)
    except TextError as error:
        assert 1 <= error.line <= text.count("\n") + text.count("\r") + 1
        assert str(error).startswith(f"line {error.line}: ")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_stays_as_it_was_typed(value: float) -> None:
    for text in (repr(value), f"{value:e}", f"{value:.3e}"):
        assert Typed(text) == float(text)
        assert spec_read(f"lr = {Typed(text)}")["lr"] == float(text)


def test_a_learning_rate_is_not_spelled_out() -> None:
    raw = spec_read("[optimizer]\nlr = 1e-4\nbetas = [0.9, 5e-1]\n")
    assert "lr = 1e-4" in spec_toml(raw)
    assert "5e-1" in spec_toml(raw)
    assert math.isclose(raw["optimizer"]["lr"], 0.0001)


def test_toml_takes_what_people_type_in_a_field() -> None:
    for typed in (".5", "5.", "+1e3", " 1e-4 ", "5", "00.5", "1_0.5"):
        assert spec_read(f"x = {Typed(typed)}")["x"] == float(typed)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('name = "a"\n[batch\n', 2, "not TOML"),
        ("a = 1\nb = 2\nb = 3\n", 3, "overwrite"),
        ("a = 1\n\n\nc = ", 4, "not TOML"),
        ('{"a": 1,\n "b": }', 2, "not JSON"),
        ("{", 1, "not JSON"),
        ("[1, 2]\n", 1, "not TOML"),
    ],
)
def test_a_mistake_has_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(TextError) as caught:
        spec_read(text)
    assert caught.value.line == line
    assert words in str(caught.value)


def test_the_body_of_the_api_is_read_as_its_spec() -> None:
    assert spec_read('{"spec": {"seed": 3}, "name": "x"}') == {"seed": 3}


def test_nulls_are_left_out() -> None:
    raw = {"advantage": None, "data": {"train": [{"source": "x", "transform": None}]}}
    assert spec_read(spec_toml(raw)) == {"data": {"train": [{"source": "x"}]}}
