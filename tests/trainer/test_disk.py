"""Room on a disk, counted as the file system gives it back."""

from __future__ import annotations

import os

from trainer.disk import disk_bytes, folders_remove, run_folders


def test_a_file_that_is_linked_twice_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    once = disk_bytes(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert disk_bytes(tmp_path) == once >= 100_000


def test_a_link_that_leads_outside_is_neither_counted_nor_followed(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "kept").write_bytes(os.urandom(200_000))
    (inside / "link").symlink_to(outside)
    assert disk_bytes(inside) < 100_000
    folders_remove([inside])
    assert (outside / "kept").exists() and not inside.exists()


def test_what_was_removed_is_what_was_taken_up(tmp_path):
    run, fetched, gone = run_folders(tmp_path, "r", ["c", "d"])
    for folder in (run, fetched):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(os.urandom(50_000))
    taken = disk_bytes(run) + disk_bytes(fetched)
    assert folders_remove([run, fetched, gone]) == taken >= 100_000
    assert folders_remove([run, fetched, gone]) == 0
