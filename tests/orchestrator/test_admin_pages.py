"""The admin's pages of the product's own things: they tell all, link back, and change nothing."""

from __future__ import annotations

import pytest
from django.test import override_settings
from django.urls import reverse

from orchestrator.models import (
    Checkpoint,
    Dataset,
    External,
    RegistryChange,
    User,
)
from orchestrator.services.externals import external_register
from orchestrator.services.registry import checkpoint_patch
from tests.orchestrator.model_folder import model_write

WITH_COMPARE = override_settings(ROOT_URLCONF="tests.orchestrator.test_compare_link")


@pytest.fixture
def root(client, db):
    user = User.objects.create_superuser("root", password="correct horse", role="admin")
    client.force_login(user)
    return user


@pytest.fixture
def kept(run):
    return Checkpoint.objects.create(
        run=run, attempt=1, step=10, path="x", sha256="a" * 64, bytes=2048,
        metrics={"eval/reward": 0.75, "loss": "NaN"},
    )  # fmt: skip


@pytest.fixture
def dataset(ada):
    return Dataset.objects.create(
        name="pairs", owner=ada, filename="d.jsonl", sha256="0" * 64, bytes=1, rows=12,
        columns=["prompt", "chosen"], mapping={"question": "prompt"}, preview=[{"prompt": "<b>"}],
    )  # fmt: skip


def page_of(thing) -> str:
    return reverse(f"admin:orchestrator_{thing._meta.model_name}_change", args=[thing.pk])


def list_of(kind) -> str:
    return reverse(f"admin:orchestrator_{kind._meta.model_name}_changelist")


def test_each_page_tells_all_and_links_to_the_products(
    client, root, run, kept, dataset, ada, tmp_path
):
    checkpoint_patch(checkpoint_id=kept.pk, user=ada, changes={"stage": "approved"})
    external = external_register(owner=ada, source=str(model_write(tmp_path / "base")))
    for thing, address, words in (
        (kept, reverse("checkpoint", args=[kept.pk]), ["approved", "0.750", "ada", "start model"]),
        (external, reverse("external", args=[external.pk]), ["LlamaForCausalLM", "registered"]),
        (run, reverse("run", args=[run.pk]), ["arithmetic", "The five facts"]),
        (run.node, reverse("nodes"), ["n1", "Contact"]),
        (dataset, reverse("dataset", args=[dataset.pk]), ["question", "12"]),
    ):
        page = client.get(page_of(thing))
        text = page.content.decode()
        assert page.status_code == 200 and f'href="{address}"' in text, thing
        for word in words:
            assert word in text, (thing, word)
        assert 'name="_save"' not in text and '<b>"' not in text
        assert client.post(page_of(thing), {"name": "x"}).status_code == 403
        assert client.post(page_of(thing).replace("change", "delete")).status_code in (403, 404)


def test_lists_say_at_a_glance_what_each_is(client, root, run, kept, dataset, ada, tmp_path):
    checkpoint_patch(checkpoint_id=kept.pk, user=ada, changes={"stage": "approved", "pinned": True})
    external_register(owner=ada, source=str(model_write(tmp_path / "base")))
    for kind, words in (
        (Checkpoint, ["tiny, step 10", "approved", ">pinned<", "reward 0.750", "2.00 KiB", "kept"]),
        (External, ["base", "LlamaForCausalLM, 520", "folder"]),
        (type(run), ["tiny", "SFT", "n1"]),
        (type(run.node), ["n1", "none"]),
        (Dataset, ["pairs", "prompt, chosen", "12"]),
    ):
        table = client.get(list_of(kind)).content.decode().partition('id="result_list"')[2]
        for word in words:
            assert word in table.partition("</table>")[0], (kind, word)


def test_what_was_changed_is_a_record_that_nobody_edits(client, root, kept, ada):
    checkpoint_patch(checkpoint_id=kept.pk, user=ada, changes={"pinned": True, "tags": ["x"]})
    text = client.get(list_of(RegistryChange)).content.decode()
    assert "tiny, step 10" in text and "pinned" in text and "ada" in text
    change = RegistryChange.objects.first()
    assert client.get(page_of(change)).status_code == 200
    assert client.post(page_of(change), {"by": "eve"}).status_code == 403
    assert "admin/orchestrator/registrychange/add" not in text


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        (Checkpoint, "stage__exact=approved"),
        (Checkpoint, "files=kept"),
        (Checkpoint, "files=removed"),
        (Checkpoint, "files=deleted"),
        (Checkpoint, "q=tiny"),
        (Checkpoint, "o=-5"),
        (External, "kind__exact=hub"),
        (External, "q=NAME"),
        (Dataset, "q=pairs"),
    ],
)
def test_lists_are_filtered_searched_and_sorted(client, root, kept, dataset, ada, kind, query):
    external_register(owner=ada, source="NAME/MODEL")
    page = client.get(f"{list_of(kind)}?{query}")
    assert page.status_code == 200 and b'id="changelist-filter"' in page.content
    found = page.context["cl"].result_count
    none = {"stage__exact=approved", "files=removed", "files=deleted"}
    assert found == (0 if query in none else 1)


def test_runs_are_filtered_by_whether_they_are_archived(client, root, run):
    address = reverse("admin:orchestrator_run_changelist")
    for query, count in (("", 1), ("archived=no", 1), ("archived=yes", 0), ("q=ti", 1)):
        assert client.get(f"{address}?{query}").context["cl"].result_count == count


def test_selected_models_are_compared_where_there_is_a_page_for_that(client, root, kept, run):
    other = Checkpoint.objects.create(run=run, attempt=1, step=20, path="y", sha256="b" * 64)
    address = list_of(Checkpoint)
    with WITH_COMPARE:
        assert b"Compare selected checkpoints" in client.get(address).content
        form = {"action": "compare_selected", "_selected_action": [kept.pk, other.pk]}
        answer = client.post(address, form)
        assert answer.status_code == 302 and "/new?with=" in answer["Location"]
        names = answer["Location"].partition("with=")[2].split(",")
        assert set(names) == {f"checkpoint:{kept.pk}", f"checkpoint:{other.pk}"}
        answer = client.post(address, {**form, "_selected_action": [kept.pk]}, follow=True)
        assert b"Choose at least two to compare." in answer.content
        assert client.get(list_of(External)).status_code == 200
