"""Reading the settings starts nothing, and what they say by default is safe."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

from django.conf import settings

from orchestrator.data_dir import PROJECT_DIR, secret_key


def settings_in_new_process(expression: str, **env: str) -> str:
    program = f"from orchestrator import settings as s; import sys; print({expression})"
    base = {name: value for name, value in os.environ.items() if not name.startswith("ANNEAL_")}
    return subprocess.check_output(
        [sys.executable, "-c", program], cwd=PROJECT_DIR, text=True, env={**base, **env}
    ).strip()


def test_importing_them_starts_no_database_and_loads_no_celery(tmp_path):
    loaded = settings_in_new_process(
        "[name for name in ('celery', 'torch', 'plotly', 'twisted') if name in sys.modules]",
        ANNEAL_DATA_DIR=str(tmp_path),
    )
    assert loaded == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_the_secret_key_is_made_once_and_private(tmp_path):
    first = secret_key(tmp_path / "var")
    assert secret_key(tmp_path / "var") == first
    assert len(first) > 50
    assert stat.S_IMODE((tmp_path / "var" / "secret_key").stat().st_mode) == 0o600
    assert secret_key(tmp_path / "other") != first


def test_by_default_only_this_machine_is_served_and_nothing_is_debugged(tmp_path):
    hosts = settings_in_new_process("s.ALLOWED_HOSTS, s.DEBUG", ANNEAL_DATA_DIR=str(tmp_path))
    assert hosts == "['localhost', '127.0.0.1', '[::1]'] False"


def test_a_database_url_replaces_the_embedded_one(tmp_path):
    name = settings_in_new_process(
        "s.DATABASES['default']['HOST']",
        ANNEAL_DATA_DIR=str(tmp_path),
        DATABASE_URL="postgres://ada:secret@db.example.org/anneal",
    )
    assert name == "db.example.org"


def test_https_makes_cookies_secure(tmp_path):
    secure = settings_in_new_process(
        "s.SESSION_COOKIE_SECURE and s.CSRF_COOKIE_SECURE and s.SECURE_HSTS_SECONDS > 0",
        ANNEAL_DATA_DIR=str(tmp_path),
        ANNEAL_HTTPS="1",
    )
    assert secure == "True"


def test_tests_have_a_data_folder_of_their_own():
    own = settings.ANNEAL_DATA_DIR
    assert any(path.name.startswith("anneal-tests-") for path in (own, own.parent))


def test_a_share_of_test_items_beyond_all_votes_is_refused_at_the_start(tmp_path):
    command = [sys.executable, "-c", "import orchestrator.settings"]
    env = {**os.environ, "ANNEAL_DATA_DIR": str(tmp_path), "ANNEAL_GOLD_RATE": "10"}
    answer = subprocess.run(command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "ANNEAL_GOLD_RATE is 10.0; it is a share of votes" in answer.stderr
