"""The pages of datasets: they upload without scripts, escape what they show, and ask for the right role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
EVIL = (
    b'{"question": "<script>alert(1)</script>", "messages": [{"role": "user", "content": "<b>hi"}]}'
)


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


def sent(content: bytes = EVIL, name: str = "rows.jsonl") -> dict[str, Any]:
    return {"name": "my rows", "file": SimpleUploadedFile(name, content)}


def test_upload_look_rename_delete(ada: User, browser_of: Any) -> None:
    browser = browser_of(ada)
    assert "No dataset is here yet" in browser.get("/datasets/").text
    page = browser.post("/datasets/upload/", sent(), follow=True).text
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page and "<b>hi" not in page
    made = Dataset.objects.get()
    assert f"/new/?dataset={made.pk}" in page
    browser.post(f"/datasets/{made.pk}/change/", {"name": "n", "column-0": "prompt"})
    made.refresh_from_db()
    assert (made.name, made.mapping) == ("n", {"question": "prompt"})
    browser.post(f"/datasets/{made.pk}/delete/")
    assert not Dataset.objects.exists()


def test_an_error_keeps_what_was_typed(ada: User, browser_of: Any) -> None:
    answer = browser_of(ada).post("/datasets/upload/", sent(b"{"))
    assert answer.status_code == 422
    assert "rows.jsonl:1: not JSON" in answer.text and 'value="my rows"' in answer.text


def test_too_large_keeps_what_was_typed(ada: User, browser_of: Any, settings: Any) -> None:
    settings.ANNEAL_MAX_UPLOAD_MB = 1
    answer = browser_of(ada).post("/datasets/upload/", sent(b"x" * 2**21))
    assert answer.status_code == 413
    assert "larger than 1 MiB" in answer.text and 'value="my rows"' in answer.text


def test_viewers_only_look(ada: User, vera: User, browser_of: Any) -> None:
    browser_of(ada).post("/datasets/upload/", sent())
    made, browser = Dataset.objects.get(), browser_of(vera)
    assert "data-upload" not in browser.get("/datasets/").text
    assert browser.get(f"/datasets/{made.pk}/").status_code == 200
    for path in ("upload/", f"{made.pk}/change/", f"{made.pk}/delete/"):
        assert browser.post(f"/datasets/{path}", sent()).status_code == 403
