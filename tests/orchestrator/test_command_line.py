"""Every command finds its DATA and its database by the same two spellings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orchestrator import postgres
from orchestrator.command_line import data_dir_taken, needs_embedded_database
from orchestrator.data_dir import PROJECT_DIR


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    monkeypatch.setenv("ANNEAL_DATA_DIR", "unset")
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.parametrize("words", [["--data-dir", "there"], ["--data-dir=there"]])
def test_data_dir_means_the_same_as_the_environment_variable(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data_dir_taken(["manage.py", "up", *words, "--port", "1"]) == [
        "manage.py",
        "up",
        "--port",
        "1",
    ]
    assert os.environ["ANNEAL_DATA_DIR"] == str(tmp_path / "there")


def test_a_relative_folder_of_the_environment_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANNEAL_DATA_DIR", "here")
    data_dir_taken(["manage.py", "up"])
    assert os.environ["ANNEAL_DATA_DIR"] == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["migrate"], True),
        (["api_token", "ada"], True),
        (["up"], False),
        (["node", "--server", "http://x"], False),
        (["migrate", "--help"], False),
        (["--version"], False),
        ([], False),
    ],
)
def test_only_commands_that_read_the_database_start_it(words, needed):
    assert needs_embedded_database(["manage.py", *words]) is needed


def test_a_named_server_is_used_instead(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/anneal")
    assert not needs_embedded_database(["manage.py", "migrate"])


def test_a_command_starts_the_database_for_its_own_duration(data_dir):
    program = "from django.db import connection as c; print(c.cursor().execute('SELECT 40 + 2').fetchone())"
    printed = subprocess.check_output(
        [sys.executable, "manage.py", "shell", "-v0", "--data-dir", str(data_dir), "-c", program],
        cwd=PROJECT_DIR,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "orchestrator.settings"},
    )
    assert printed.strip() == "(42,)"
    assert postgres.postmaster_pid(data_dir) is None
