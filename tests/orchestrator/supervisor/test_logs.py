"""Logs stay small, and their end can be read."""

from __future__ import annotations

from orchestrator.supervisor import logs


def test_only_a_large_log_is_moved_aside_and_few_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "ROTATE_AT", 10)
    path = tmp_path / "web.log"
    for number in range(6):
        path.write_text(f"{number} and more than ten bytes")
        logs.rotate(path)
    path.write_text("small")
    logs.rotate(path)
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "web.log",
        "web.log.1",
        "web.log.2",
        "web.log.3",
    ]
    assert (tmp_path / "web.log.1").read_text().startswith("5")


def test_last_lines_skip_empty_ones(tmp_path):
    path = tmp_path / "web.log"
    path.write_text("one\n\ntwo\n\n\nthree\n")
    assert logs.last_lines(path, 2) == ["two", "three"]
    assert logs.last_lines(tmp_path / "missing") == []
