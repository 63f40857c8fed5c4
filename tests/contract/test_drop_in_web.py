"""Dropping a method's file in is the whole registration: the web application's half of that promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_drop_in import LOSS, MIRROR

ROOT = Path(__file__).parents[2]

DRAW = """
import json
import django
django.setup()
from django.template.loader import render_to_string
from orchestrator.api.interface import api
from orchestrator.selectors import spec_desk, spec_review
from orchestrator.selectors.spec_start import Start, start_from

# What needs a database is left out: which runs and uploads there are.
spec_desk.similar_run = lambda spec: {}
raw = {
    "objective": {"type": "chasm", "margin": 2.5},
    "rewards": [{"type": "mirror", "sharpness": 3}],
}
desk = spec_desk.desk_open(Start(raw))
posted = spec_desk.desk_read({
    "objective.type": ["chasm"], "objective@was": ["chasm"], "objective.margin": ["-1"],
    "rewards@count": ["0"], "_do": ["add rewards mirror"],
})
print(json.dumps({
    "form": render_to_string("new_run/form.html", {"desk": desk, "lists": {}}),
    "review": desk.review,
    "spec": desk.spec,
    "posted": posted.spec,
    "places": posted.places,
    "openapi": api.get_openapi_schema(),
}, default=str))
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What another process shows whose operator dropped two files into a folder of their own."""
    methods = tmp_path_factory.mktemp("methods")
    (methods / "chasm.py").write_text(LOSS)
    (methods / "mirror.py").write_text(MIRROR)
    data_dir = tmp_path_factory.mktemp("data")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRAW)],
        cwd=ROOT,
        env={
            **os.environ,
            "ANNEAL_METHODS": str(methods),
            "ANNEAL_DATA_DIR": str(data_dir),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def test_the_form_offers_them_among_the_others(drawn: dict[str, Any]) -> None:
    assert '<option value="chasm" selected>chasm</option>' in drawn["form"]
    assert '<option value="mirror" selected>mirror</option>' in drawn["form"]
    assert "add rewards mirror" in drawn["form"]


def test_their_knobs_are_fields_with_help_unit_range_and_healthy_range(
    drawn: dict[str, Any],
) -> None:
    form = drawn["form"]
    assert 'name="objective.margin" value="2.5"' in form
    assert 'name="rewards.0.sharpness" value="3"' in form
    for words in (
        "How far apart the two must be",
        "nats",
        "&gt; 0, ≤ 9",
        "healthy 1 to 3",
        "our own",
    ):
        assert words in form
    assert "Push the chosen answer above the rejected one by a margin" in form


def test_what_they_declare_decides_what_else_is_shown(drawn: dict[str, Any]) -> None:
    assert "there are no sampled answers to compare" in drawn["form"]
    assert any("pairs × 2 sides" in sentence for sentence in drawn["review"]["arithmetic"])
    assert drawn["review"]["errors"] == []


def test_they_are_posted_and_checked(drawn: dict[str, Any]) -> None:
    assert drawn["posted"]["rewards"] == [{"type": "mirror"}]
    assert list(drawn["places"]) == ["objective.margin"]


def test_the_api_describes_them(drawn: dict[str, Any]) -> None:
    schemas = drawn["openapi"]["components"]["schemas"]
    assert schemas["Chasm"]["properties"]["margin"]["exclusiveMinimum"] == 0
    assert schemas["Mirror"]["properties"]["sharpness"]["maximum"] == 9
