"""The tempo of the processes: what the environment asks for, and what it may not ask for."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from trainer.tempo import Tempo, tempo_read, variable

PROJECT = Path(__file__).parents[2]


def test_nothing_set_gives_the_defaults():
    assert tempo_read({}) == tempo_read({"ANNEAL_LEASE": " "}) == Tempo()


def test_each_variable_sets_its_field():
    # Halved altogether, what must be twice as long as something else stays so.
    halves = {variable(name): str(value / 2) for name, value in asdict(Tempo()).items()}
    assert asdict(tempo_read(halves)) == {k: v / 2 for k, v in asdict(Tempo()).items()}


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "inf", "1e9"])
def test_what_is_no_time_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"ANNEAL_GRACE is '.*'; it must be a number of seconds"):
        tempo_read({"ANNEAL_GRACE": text})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"ANNEAL_LEASE": "6"},
            "ANNEAL_LEASE is 6 s and ANNEAL_HEARTBEAT 5 s; set ANNEAL_LEASE to 10 or more, or "
            "ANNEAL_HEARTBEAT to 3 or less.",
        ),
        (
            {"ANNEAL_SHIP_SILENCE": "2"},
            "ANNEAL_SHIP_SILENCE is 2 s and ANNEAL_SHIP_BEAT 1.5 s; set ANNEAL_SHIP_SILENCE to 3 or "
            "more, or ANNEAL_SHIP_BEAT to 1 or less.",
        ),
    ],
)
def test_patience_lasts_for_two_words(given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        tempo_read(given)
    assert tempo_read({"ANNEAL_LEASE": "10"}).lease == 10


def test_a_command_ends_with_the_sentence(tmp_path):
    env = {"ANNEAL_DATA_DIR": str(tmp_path), "ANNEAL_LEASE": "6", "PATH": ""}
    command = [sys.executable, str(PROJECT / "manage.py"), "up"]
    found = subprocess.run(command, env=env, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("ANNEAL_LEASE is 6 s and ANNEAL_HEARTBEAT 5 s;")


def test_the_readme_tells_of_every_variable_with_its_default():
    told = {}
    for line in (PROJECT / "README.md").read_text().splitlines():
        names, _, rest = line.removeprefix("| ").partition(" | ")
        values = rest.partition(" | ")[0].split(", ")
        told |= dict(zip(re.findall(r"`(ANNEAL_\w+)`", names), values, strict=False))
    for name, default in asdict(Tempo()).items():
        assert told.get(variable(name)) == f"{default:g}", name
