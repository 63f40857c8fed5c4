"""The embedded database starts anywhere, survives kills, and touches nothing outside DATA."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from orchestrator import postgres
from orchestrator.postgres import binaries
from orchestrator.postgres.record import connection_words, record_read


def ask(data_dir: Path, statement: str) -> list[tuple]:
    with psycopg.connect(postgres.url(data_dir), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """Mode and owner of a folder's neighbours and of all its parents."""
    (folder.parent / "neighbour").mkdir(exist_ok=True)
    places = [folder.parent / "neighbour", *folder.parents]
    return {str(place): (place.stat().st_mode, place.stat().st_uid) for place in places}


def test_it_starts_answers_and_starting_again_changes_nothing(data_dir):
    url = postgres.ensure_running(data_dir)
    pid = postgres.postmaster_pid(data_dir)
    assert ask(data_dir, "SHOW server_version_num")[0][0].startswith("18")
    assert ask(data_dir, "SHOW synchronous_commit") == [("on",)]
    assert postgres.ensure_running(data_dir) == url == postgres.url(data_dir)
    assert postgres.postmaster_pid(data_dir) == pid
    postmaster = psutil.Process(pid)
    postgres.stop(data_dir)
    assert postgres.postmaster_pid(data_dir) is None
    # Its last act comes after the pid file is gone.
    postmaster.wait(10)


def test_it_lets_nobody_in_without_the_password(data_dir):
    postgres.ensure_running(data_dir)
    words = connection_words(record_read(data_dir))
    for wrong in ({"password": "wrong"}, {"user": "postgres"}):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**{**words, **wrong})
    for private in ("postgres.json", "postgres", "postgres/socket"):
        assert stat.S_IMODE((data_dir / private).stat().st_mode) & 0o077 == 0
    listening = psutil.Process(postgres.postmaster_pid(data_dir)).net_connections("inet")
    assert listening == []


@pytest.mark.parametrize("name", ["with space", "a,b", 'it\'s "$HOME"', "long" * 30])
def test_any_folder_name_works(data_dir, name):
    odd = data_dir.parent / name / "var"
    postgres.ensure_running(odd)
    assert ask(odd, "SELECT 1") == [(1,)]
    postgres.remove(odd)


def test_no_permission_outside_data_changes(data_dir):
    before = modes(data_dir)
    postgres.ensure_running(data_dir)
    postgres.stop(data_dir)
    assert modes(data_dir) == before


def test_below_a_closed_folder_it_lives_elsewhere_and_the_folder_stays_closed(data_dir):
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    inside = closed / "var"
    before = modes(inside)
    postgres.ensure_running(inside)
    assert ask(inside, "SELECT 1") == [(1,)]
    assert modes(inside) == before
    home = Path(record_read(inside).home)
    assert home.is_relative_to(inside) == (os.geteuid() != 0)
    postgres.remove(inside)
    assert not home.exists()


def test_programs_in_a_closed_folder_are_copied_to_where_the_server_reaches(data_dir, monkeypatch):
    monkeypatch.setattr(binaries, "reaches", lambda account, path: False)
    postgres.ensure_running(data_dir)
    program = Path(psutil.Process(postgres.postmaster_pid(data_dir)).exe())
    assert program.is_relative_to(data_dir / "postgres")
    assert ask(data_dir, "SELECT 1") == [(1,)]


def test_after_a_kill_it_starts_with_what_was_committed(data_dir):
    postgres.ensure_running(data_dir)
    ask(data_dir, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postgres.postmaster_pid(data_dir), signal.SIGKILL)
    postgres.ensure_running(data_dir)
    assert ask(data_dir, "SELECT answer FROM kept") == [(42,)]


def test_a_pid_file_that_names_a_stranger_does_not_keep_it_down(data_dir):
    postgres.ensure_running(data_dir)
    record = record_read(data_dir)
    pid_file = record.data / "postmaster.pid"
    text = pid_file.read_text().split("\n", 1)
    postgres.stop(data_dir)
    stranger = subprocess.Popen(["sleep", "60"])
    pid_file.write_text(f"{stranger.pid}\n{text[1]}")
    assert postgres.postmaster_pid(data_dir) is None
    postgres.ensure_running(data_dir)
    assert ask(data_dir, "SELECT 1") == [(1,)]
    postgres.stop(data_dir)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_of_processes_that_start_it_at_once_one_does(data_dir):
    program = (
        "import sys; from pathlib import Path; from orchestrator import postgres;"
        "print(postgres.ensure_running(Path(sys.argv[1])))"
    )

    def start(_: int) -> str:
        return subprocess.check_output([sys.executable, "-c", program, str(data_dir)], text=True)

    with ThreadPoolExecutor() as threads:
        urls = set(threads.map(start, range(4)))
    assert {url.strip() for url in urls} == {postgres.url(data_dir)}
    assert ask(data_dir, "SELECT 1") == [(1,)]
    servers = [one for one in psutil.process_iter(["cmdline"]) if str(data_dir) in str(one.info)]
    assert [one.pid for one in servers] == [postgres.postmaster_pid(data_dir)]


def test_a_folder_that_was_moved_keeps_its_database(data_dir):
    postgres.ensure_running(data_dir)
    ask(data_dir, "CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.stop(data_dir)
    moved = data_dir.rename(data_dir.with_name("moved"))
    postgres.ensure_running(moved)
    assert ask(moved, "SELECT answer FROM kept") == [(42,)]
    postgres.remove(moved)


def test_a_lost_cluster_is_not_silently_replaced_by_an_empty_one(data_dir):
    postgres.ensure_running(data_dir)
    postgres.stop(data_dir)
    (data_dir / "postgres").rename(data_dir / "gone")
    with pytest.raises(postgres.DatabaseError, match="is gone"):
        postgres.ensure_running(data_dir)


def test_a_half_made_cluster_is_made_again(data_dir):
    postgres.ensure_running(data_dir)
    postgres.stop(data_dir)
    data = data_dir / "postgres" / "data"
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    postgres.ensure_running(data_dir)
    assert ask(data_dir, "SELECT 1") == [(1,)]


def test_it_says_why_it_cannot_start(data_dir, monkeypatch):
    postgres.ensure_running(data_dir)
    postgres.stop(data_dir)
    with (record_read(data_dir).data / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(postgres.DatabaseError, match="no_such_setting"):
        postgres.ensure_running(data_dir)
