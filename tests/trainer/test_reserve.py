"""Room for the last words: taken while there is some, never a reason to fail."""

from __future__ import annotations

import errno
import os

from trainer import reserve
from trainer.reserve import SIZE, Reserve, disk_is_full


def test_it_takes_blocks_and_gives_them_back(tmp_path):
    room = Reserve(tmp_path / "reserve")
    room.take()
    assert room.path.stat().st_blocks * 512 >= SIZE
    room.give()
    room.give()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(file, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    Reserve(tmp_path / "reserve").take()
    Reserve(tmp_path / "nowhere" / "reserve").take()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_a_line_is_full(tmp_path, monkeypatch):
    assert not disk_is_full(tmp_path)
    assert not disk_is_full(tmp_path / "nowhere")
    found = os.statvfs(tmp_path)

    class Full:
        f_bavail, f_bsize, f_frsize = 1, found.f_bsize, found.f_frsize

    monkeypatch.setattr(reserve.os, "statvfs", lambda folder: Full)
    assert disk_is_full(tmp_path)
