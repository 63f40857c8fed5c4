"""What ANNEAL_ARTIFACTS_URL may be: a place that every machine reaches, without secrets in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orchestrator.artifacts import place
from orchestrator.artifacts.place import url_checked
from orchestrator.data_dir import PROJECT_DIR


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", ""),
        ("  s3://bucket/some/prefix/ ", "s3://bucket/some/prefix"),
        ("s3://bucket", "s3://bucket"),
        ("file:///mnt/shared/anneal", "file:///mnt/shared/anneal"),
        ("file:///mnt/with%20space", "file:///mnt/with%20space"),
        ("/mnt/shared/with space", "file:///mnt/shared/with%20space"),
    ],
)
def test_a_place_for_all_is_taken(text, url, tmp_path):
    assert url_checked(text, tmp_path) == url
    assert url_checked(url, tmp_path) == url


def test_the_servers_own_folder_is_the_default_however_it_is_written(tmp_path):
    (tmp_path / "way").symlink_to(tmp_path / "var")
    for text in (tmp_path / "var" / "artifacts", tmp_path / "way" / "artifacts"):
        assert url_checked(str(text), tmp_path / "var") == ""
        assert url_checked(text.as_uri() + "/", tmp_path / "var") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory://x", "begins with memory://, which is no place that server and nodes share"),
        ("https://host/x", "begins with https://, which is no place"),
        ("artifacts", "is 'artifacts'; set it to a URL such as s3://BUCKET/PREFIX"),
        ("simplecache::s3://bucket", "set it to a URL such as"),
        ("file://mnt/shared", "write an absolute path"),
        ("nosuch://bucket", "begins with nosuch://, which fsspec does not know"),
        ("s3:///prefix", "without a bucket"),
    ],
)
def test_what_it_cannot_be_is_said(text, words, tmp_path):
    with pytest.raises(ValueError, match="ANNEAL_ARTIFACTS_URL") as refusal:
        url_checked(text, tmp_path)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    ["s3://key:hush@bucket/x", "s3://hush@bucket", "abfs://a:hush@b/c", "s3://b/x?secret=hush"],
)
def test_credentials_in_it_are_refused_and_not_repeated(text, tmp_path):
    with pytest.raises(ValueError, match="set credentials in the environment") as refusal:
        url_checked(text, tmp_path)
    assert "hush" not in str(refusal.value)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="package s3fs is missing here; install it: pip install s3fs"
    ):
        url_checked("s3://bucket/x", tmp_path)


def test_every_command_says_it_before_anything_starts(tmp_path):
    env = {**os.environ, "ANNEAL_DATA_DIR": str(tmp_path), "ANNEAL_ARTIFACTS_URL": "memory://x"}
    command = [sys.executable, "manage.py", "up"]
    ended = subprocess.run(command, cwd=PROJECT_DIR, env=env, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ANNEAL_ARTIFACTS_URL begins with memory://")
    assert "Traceback" not in ended.stderr and list(tmp_path.iterdir()) == []
