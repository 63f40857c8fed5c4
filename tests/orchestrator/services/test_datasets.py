"""Uploads: every format, what is refused and leaves nothing, mappings, deletion, and the trainer's verdict."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Dataset, Run, State
from orchestrator.selectors.dataset_serves import NEEDS, services_of
from orchestrator.selectors.datasets import dataset_path, folder
from orchestrator.services.datasets import (
    TooLarge,
    dataset_delete,
    dataset_patch,
    dataset_upload,
)
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> Path:
    settings.ANNEAL_DATA_DIR = tmp_path
    return tmp_path / "datasets"


def upload(owner: User, content: bytes, filename: str = "rows.jsonl", **words: Any) -> Dataset:
    file = SimpleUploadedFile("x", content)
    # Django cuts the folders off by itself; what is tested is that we do.
    file._name = filename
    return dataset_upload(owner=owner, file=file, **words)


def parquet() -> bytes:
    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), made)
    return made.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".jsonl", JSONL),
        (".json", json.dumps(ROWS).encode()),
        (".csv", b"question,answer\n1+1?,2\n2+2?,4\n"),
        (".parquet", parquet()),
    ],
)
def test_every_format(ada: User, ending: str, content: bytes, packed: bool) -> None:
    name = f"my.rows{ending}{'.gz' if packed else ''}"
    made = upload(ada, gzip.compress(content) if packed else content, name)
    assert (made.name, made.rows, made.columns) == ("my.rows", 2, ["question", "answer"])
    assert made.preview == ROWS
    assert dataset_path(made).name == f"{made.sha256}{ending}{'.gz' if packed else ''}"


@pytest.mark.parametrize(
    ("content", "filename", "words"),
    [
        (b'{"a": 1}\n{"a":\n', "bad.jsonl", "bad.jsonl:2: not JSON"),
        (b"", "none.jsonl", "none.jsonl: the file is empty"),
        (b"\n\n", "none.jsonl", "none.jsonl: holds no rows"),
        (b"a,b\n1\n", "t.csv", "t.csv:2: 1 values"),
        (b"x", "rows.pkl", "not a kind of file"),
        (b'{"a\\u0000b": 1}', "nul.jsonl", "cannot be a column's name"),
        (gzip.compress(JSONL, mtime=0)[:-9], "cut.jsonl.gz", "not a whole gzip file"),
    ],
)
def test_what_is_refused_leaves_nothing(
    ada: User, place: Path, content: bytes, filename: str, words: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^/]*$") as error:
        upload(ada, content, filename)
    assert words in str(error.value)
    assert not Dataset.objects.exists()
    assert not place.exists() or not list(place.iterdir())


def test_too_large(ada: User, settings: Any, place: Path) -> None:
    settings.ANNEAL_MAX_UPLOAD_MB = 1
    with pytest.raises(TooLarge, match="larger than 1 MiB"):
        upload(ada, b"x" * (2**20 + 1))
    assert not list(place.iterdir())


def test_the_same_again_is_the_same(ada: User, bob: User) -> None:
    first = upload(ada, JSONL)
    again = upload(bob, JSONL)
    assert first.created_now and not again.created_now
    assert again.pk == first.pk
    assert upload(ada, JSONL, name="other").pk != first.pk


@pytest.mark.parametrize("name", ["../../evil.jsonl", "..\\..\\evil.jsonl", "/etc/evil.jsonl"])
def test_no_name_leads_out_of_the_folder(ada: User, place: Path, name: str) -> None:
    made = upload(ada, JSONL, name)
    assert made.filename == "evil.jsonl"
    assert dataset_path(made).parent == place == folder()


def test_previews_hold_what_the_database_takes(ada: User) -> None:
    row = {"prompt": "a\x00b" + "x" * 100_000, "n": float("nan"), "s": "\ud800", "l": [0] * 1000}
    made = upload(ada, json.dumps(row).encode())
    shown = Dataset.objects.get(pk=made.pk).preview[0]
    assert shown["prompt"].startswith("a\ufffdb") and shown["prompt"].endswith("characters)")
    assert len(shown["prompt"]) < 3000
    assert (shown["n"], shown["s"], len(shown["l"])) == ("NaN", "\ufffd", 41)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"nothing": "prompt"}, "there is no column 'nothing'"),
        ({"question": "prompt", "answer": "prompt"}, "two columns"),
        ({"question": "a\x00"}, "cannot be a name"),
    ],
)
def test_mappings_that_cannot_be(ada: User, mapping: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        upload(ada, JSONL, mapping=mapping)


def test_owner_and_admin_change(ada: User, bob: User, alma: User, vera: User) -> None:
    made = upload(ada, JSONL)
    for user in (bob, vera):
        with pytest.raises(PermissionDenied):
            dataset_patch(dataset_id=made.pk, user=user, name="mine")
        with pytest.raises(PermissionDenied):
            dataset_delete(dataset_id=made.pk, user=user)
    dataset_patch(dataset_id=made.pk, user=ada, mapping={"question": "prompt"})
    assert dataset_patch(dataset_id=made.pk, user=alma, name="n").mapping == {"question": "prompt"}


def test_deleting_waits_for_runs_and_frees_the_last_file(ada: User) -> None:
    one, two = upload(ada, JSONL), upload(ada, JSONL, name="two")
    spec = {"data": {"train": [{"source": one.pk, "weight": 1.0}]}}
    run = Run.objects.create(name="r1", owner=ada, spec=spec, state=State.RUNNING)
    with pytest.raises(ValueError, match="in use by r1"):
        dataset_delete(dataset_id=one.pk, user=ada)
    Run.objects.filter(pk=run.pk).update(state=State.FINISHED)
    dataset_delete(dataset_id=one.pk, user=ada)
    assert dataset_path(two).is_file()
    dataset_delete(dataset_id=two.pk, user=ada)
    assert not dataset_path(two).exists()


CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("rows", "mapping"),
    [
        (ROWS, {}),
        ([{"prompt": "p", "chosen": "a", "rejected": "b"}], {}),
        ([{"q": "p", "good": "a", "bad": "b"}], {"q": "prompt", "good": "chosen"}),
        ([{"messages": CHAT}], {}),
        ([{"messages": CHAT[:1]}], {}),
        ([{"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "c"}]}], {}),
        ([{"prompt": "p", "completion": 3}], {}),
        ([{"prompt": ""}, {"prompt": None}], {}),
        ([{"a": "p"}, {"b": "p"}], {"a": "prompt"}),
    ],
)
def test_the_verdict_is_the_trainers(ada: User, rows: list[Any], mapping: dict[str, str]) -> None:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    made = upload(ada, content, mapping=mapping)
    source = DataSource(source=made.pk, columns=mapping)
    for service in services_of(made):
        try:
            wanted = frozenset(NEEDS[service.kind])
            rows_load(source, seed=0, wanted=wanted, datasets={made.pk: dataset_path(made)})
            trains = True
        except ValueError:
            trains = False
        assert service.ok == trains, service
