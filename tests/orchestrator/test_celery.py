"""Orders travel as JSON only, on a broker that needs no server, with a beat that keeps no file."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.beat import MemoryScheduler
from orchestrator.celery import BROKER_FOLDER, app
from orchestrator.data_dir import PROJECT_DIR


def test_it_speaks_json_only():
    assert list(app.conf.accept_content) == ["json"]
    assert app.conf.task_serializer == app.conf.event_serializer == "json"


def test_importing_it_makes_no_folder_and_connecting_makes_private_ones(data_dir):
    program = (
        "from orchestrator.celery import BROKER_FOLDER as folder, app;"
        "print(folder.exists());"
        "app.send_task('orchestrator.tasks.sweep');"
        "print(len(list((folder / 'messages').iterdir())))"
    )
    env = {**os.environ, "ANNEAL_DATA_DIR": str(data_dir)}
    env["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings"
    printed = subprocess.check_output(
        [sys.executable, "-c", program], cwd=PROJECT_DIR, text=True, env=env
    )
    assert printed.split() == ["False", "1"]
    assert (data_dir / "broker" / "messages").stat().st_mode & 0o077 == 0


def test_tests_never_reach_a_real_broker():
    assert "anneal-tests-" in str(BROKER_FOLDER)


def test_every_beat_expires(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scheduler = MemoryScheduler(app=app, schedule_filename="celerybeat-schedule")
    entries = scheduler.schedule.values()
    assert {entry.task for entry in entries} == {
        "orchestrator.tasks.keep_house",
        "orchestrator.tasks.pack",
        "orchestrator.tasks.promote",
        "orchestrator.tasks.remove",
        "orchestrator.tasks.schedule",
        "orchestrator.tasks.sweep",
    }
    assert all(entry.options["expires"] <= 5 for entry in entries)
    scheduler.close()
    assert list(tmp_path.iterdir()) == []
