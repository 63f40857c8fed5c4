"""The control file: the newest order is read once it is whole, and costs nothing while it is the same."""

from __future__ import annotations

from trainer.control import Control, ControlReader


def test_without_a_file_the_run_goes_on(tmp_path):
    assert ControlReader(tmp_path / "control.json").read() == Control("run")


def test_the_newest_order_counts(tmp_path):
    path = tmp_path / "control.json"
    reader = ControlReader(path)
    for order in (
        Control("pause", "user", "by ada", {"budget.max_steps": 5}),
        Control("stop", "server-stopped"),
        Control("run"),
    ):
        order.write(path)
        assert reader.read() == order


def test_an_order_stands_when_its_file_is_gone(tmp_path):
    path = tmp_path / "control.json"
    reader = ControlReader(path)
    Control("stop").write(path)
    reader.read()
    path.unlink()
    assert reader.read().want == "stop"


def test_an_unchanged_file_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "control.json"
    Control("pause").write(path)
    reader = ControlReader(path)
    reader.read()
    monkeypatch.setattr(type(path), "read_text", None)
    assert reader.read().want == "pause"
