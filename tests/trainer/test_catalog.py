"""The catalogue of methods and knobs."""

from __future__ import annotations

import json

from trainer import registry
from trainer.catalog import (
    catalog,
    catalog_data,
    catalog_json,
    catalog_markdown,
    entry_of,
    knobs_of,
    spec_sections,
)
from trainer.spec import Batch, RunSpec


def test_it_lists_every_method_of_every_family_once() -> None:
    listed = [(entry.family, entry.type) for entry in catalog()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {
        (family, tag) for family in registry.FAMILIES for tag in registry.family(family)
    }


def test_an_entry_tells_what_a_card_needs() -> None:
    entry = entry_of("objectives", "dpo")
    assert entry.title == "DPO"
    assert "arXiv 2305.18290" in entry.origin
    assert entry.summary == "Learn from preference pairs without a reward model."
    assert entry.formula.startswith("L = ")
    assert (entry.learns_from, entry.needs, entry.role) == ("pairs", ("reference",), "objective")
    assert entry.primary in {"rewards/margins"}
    assert "grad_norm" in entry.charts
    assert len(entry.sha256) == 64


def test_a_knob_is_divided_at_its_marked_lines() -> None:
    knob = next(knob for knob in entry_of("objectives", "dpo").knobs if knob.name == "beta")
    assert (knob.kind, knob.default) == ("number", 0.1)
    assert (knob.minimum, knob.minimum_excluded) == (0, True)
    assert (knob.maximum, knob.maximum_excluded) == (10, False)
    assert knob.help == "How strongly to stay near the reference; smaller moves further."
    assert knob.healthy == "0.01 to 0.5"
    assert knob.source == "arXiv 2305.18290, equation 7"
    assert knob.basic and knob.live


def test_units_and_live_knobs_are_marked() -> None:
    knobs = {knob.name: knob for knob in knobs_of(Batch)}
    assert knobs["tokens_per_microbatch"].unit == "tokens"
    lr = next(knob for knob in entry_of("optimizers", "adamw").knobs if knob.name == "lr")
    assert lr.live


def test_every_kind_of_knob_is_told_apart() -> None:
    knobs = {
        f"{section.name}.{knob.name}".lstrip("."): knob
        for section in spec_sections()
        for knob in section.knobs
    }
    assert knobs["kind"].kind == "choice"
    assert knobs["kind"].choices == ("train", "evaluate", "play")
    assert knobs["seed"].kind == "integer"
    assert knobs["model"].kind == "section" and knobs["model"].of == "model"
    assert knobs["objective"].kind == "method" and knobs["objective"].of == "objectives"
    assert knobs["rewards"].kind == "methods" and knobs["rewards"].role == "reward"
    assert knobs["advantage"].optional
    assert knobs["data.train"].kind == "sections" and knobs["data.train"].of == "data.train"
    assert knobs["data.train.columns"].kind == "mapping"
    assert knobs["data.train.transform"].role == "transform"
    assert knobs["model.trust_remote_code"].kind == "boolean"
    assert knobs["budget.max_minutes"].kind == "number"
    assert knobs["resources.labels"].kind == "list"
    assert (knobs["resources.gpus"].kind, knobs["resources.gpus"].choices) == ("integer", ("auto",))


def test_every_section_of_the_spec_is_there_with_its_top_level_first() -> None:
    names = [section.name for section in spec_sections()]
    assert names[0] == ""
    named = {knob.of for section in spec_sections() for knob in section.knobs}
    assert set(names[1:]) == {name for name in named if name and name not in registry.FAMILIES} | {
        "data"
    }
    assert [knob.name for knob in spec_sections()[0].knobs] == list(RunSpec.model_fields)


def test_the_json_is_the_data() -> None:
    assert json.loads(catalog_json()) == json.loads(json.dumps(catalog_data()))


def test_the_page_has_a_heading_for_every_method_and_a_row_for_every_knob() -> None:
    page = catalog_markdown()
    for entry in catalog():
        assert f"### {entry.type}\n" in page
        for knob in entry.knobs:
            assert f"| `{knob.name}` |" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
