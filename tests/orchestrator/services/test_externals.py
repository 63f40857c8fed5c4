"""External models: registered with what their files say, named in specs, forgotten without touching a file."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.models import External, Node, RegistryChange, Run
from orchestrator.selectors.externals import external_in_reach, externals_list
from orchestrator.selectors.inputs import inputs_of
from orchestrator.selectors.reach import out_of_reach
from orchestrator.selectors.spec_choices import model_choices, name_problems, names_explained
from orchestrator.services.externals import (
    external_delete,
    external_register,
    external_reread,
)
from orchestrator.services.registry import external_patch
from orchestrator.services.runs import run_stop
from tests.orchestrator.model_folder import model_write
from tests.orchestrator.services.conftest import DPO
from trainer.spec import SpecError


@pytest.fixture
def folder(tmp_path):
    return model_write(tmp_path / "base-1b")


@pytest.fixture
def external(folder, ada):
    return external_register(owner=ada, source=f" {folder}/ ", tags=["b", "a"], note="n")


def test_a_folder_is_read_and_called_by_its_last_part(external, folder, ada):
    assert (external.kind, external.source, external.name) == ("path", str(folder), "base-1b")
    assert external.facts["vocab_size"] == 64 and external.facts["tokens"] == 11
    assert external.bytes > 2000 and len(external.sha256) == 64 and external.read
    assert external.tags == ["a", "b"]
    (change,) = RegistryChange.objects.all()
    assert (change.what, change.by, change.subject) == (
        "registered",
        "ada",
        f"external:{external.pk}",
    )


def test_a_hub_model_is_named_and_not_asked_for(db, ada):
    made = external_register(owner=ada, source="NAME/MODEL-7B", revision="abc123", name=" Seven ")
    assert (made.kind, made.source, made.revision, made.name) == (
        "hub",
        "NAME/MODEL-7B",
        "abc123",
        "Seven",
    )
    assert (made.sha256, made.bytes, made.facts, made.read) == ("", None, {}, None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"source": "FOLDER/nothing"}, "source: .*/nothing is not there"),
        ({"source": "models/base/x"}, "source: 'models/base/x' is no absolute path and no hub id"),
        ({"source": "../secret"}, "is no absolute path and no hub id"),
        ({"source": "a..b/c"}, "is no absolute path and no hub id"),
        ({"source": ""}, "source: '' is no absolute path"),
        ({"source": "FOLDER", "revision": "main"}, "revision: folders have none"),
        ({"source": "N/M", "revision": "../x"}, "revision: '../x' is no branch"),
        ({"source": "N/M", "node": "n1"}, "node: a hub model lies on no node"),
        ({"source": "FOLDER", "node": "n9"}, "node: there is no node 'n9'"),
        ({"source": "N/M", "name": "x" * 121}, "name: longer than 120"),
        ({"source": "N/M", "tags": ["x" * 65]}, "tags: "),
    ],
)
def test_nonsense_is_refused_with_the_field(folder, ada, words, sentence):
    words = {name: value.replace("FOLDER", str(folder)) if name == "source" else value
             for name, value in words.items()}  # fmt: skip
    with pytest.raises(ValueError, match=sentence):
        external_register(owner=ada, **words)
    assert not External.objects.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_a_folder_lacks_is_said(folder, ada, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=r"source: .*base-1b holds no"):
        external_register(owner=ada, source=str(folder))


def test_the_same_is_registered_once(external, folder, ada, joined):
    with pytest.raises(ValueError, match=f"registered already as base-1b .external:{external.pk}"):
        external_register(owner=ada, source=f"{folder}/../base-1b")
    far = joined("far")
    Node.objects.update(local=False)
    made = external_register(owner=ada, source=str(folder), node="far")
    assert (made.node, made.facts, made.read) == (far, {}, None), "its disk cannot be looked into"


def test_a_folder_on_every_machine_need_not_be_on_this_one(db, ada):
    made = external_register(owner=ada, source="/shared/nothing/here", node="*")
    assert made.everywhere and made.facts == {}


# --- in specs -------------------------------------------------------------------------------------


def test_runs_start_from_it_and_their_nodes_are_told_where_it_lies(external, launch):
    run = launch("child", model={"name": f"external:{external.pk}"})
    place = inputs_of(run)["models"][f"external:{external.pk}"]
    assert place == {
        "external": external.pk,
        "name": "base-1b",
        "kind": "path",
        "source": external.source,
        "revision": "",
        "sha256": external.sha256,
    }


def test_a_hub_models_revision_goes_into_the_spec(db, ada, launch):
    made = external_register(owner=ada, source="NAME/MODEL", revision="abc")
    name = {"name": f"external:{made.pk}"}
    assert launch("a", model=name).spec["model"]["revision"] == "abc"
    assert launch("b", reference=name, **DPO).spec["model"]["revision"] == "abc"
    assert launch("c", model={**name, "revision": "abc"}).spec["model"]["revision"] == "abc"
    with pytest.raises(SpecError, match="is registered at abc; write that, or nothing"):
        launch("d", model={**name, "revision": "main"})


def test_what_is_not_there_is_refused_at_the_launch(external, launch, folder):
    with pytest.raises(SpecError, match="there is no external:aaaaaaaaaaaa"):
        launch("child", model={"name": "external:aaaaaaaaaaaa"})
    (folder / "config.json").unlink()
    sentence = rf"external:{external.pk} \(base-1b\): .* holds no model"
    with pytest.raises(SpecError, match=sentence):
        launch("child", reference={"name": f"external:{external.pk}"}, **DPO)


def test_the_form_offers_and_explains_it(external):
    name = f"external:{external.pk}"
    assert [one.value for one in model_choices()["External"]] == [name]
    raw = {"model": {"name": name}, "reference": {"name": "external:aaaaaaaaaaaa"}}
    assert names_explained(raw)["model.name"].startswith("base-1b: /")
    (problem,) = name_problems(raw)
    assert problem.path == "reference.name" and "no external model aaaa" in problem.message


def test_runs_wait_for_a_machine_that_can_read_it(external, launch, joined):
    here, far = joined("here"), joined("far", host="elsewhere")
    Node.objects.filter(pk=far.pk).update(local=False)
    far.refresh_from_db()
    run = launch("child", model={"name": f"external:{external.pk}"})
    assert list(out_of_reach(run, here)) == []
    (why,) = out_of_reach(run, far)
    assert why == (
        f"cannot read external:{external.pk} (base-1b), a folder on the disk of this server"
    )
    External.objects.update(node=far)
    external.refresh_from_db()
    assert external_in_reach(external, far) and not external_in_reach(external, here)
    External.objects.update(node=None, everywhere=True)
    external.refresh_from_db()
    assert external_in_reach(external, far) and external_in_reach(external, here)


# --- its life -------------------------------------------------------------------------------------


def test_read_again_a_changed_model_loses_its_stage(external, folder, ada, bob):
    external_patch(external_id=external.pk, user=ada, changes={"stage": "approved", "name": "B"})
    assert external_reread(external_id=external.pk, user=ada).stage == "approved"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 65}))
    with pytest.raises(PermissionDenied):
        external_reread(external_id=external.pk, user=bob)
    found = external_reread(external_id=external.pk, user=ada)
    assert (found.stage, found.facts["vocab_size"], found.name) == ("", 65, "B")
    whats = list(RegistryChange.objects.order_by("pk").values_list("what", flat=True))
    assert whats == ["registered", "stage", "name", "read", "stage"]
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="holds no model"):
        external_reread(external_id=external.pk, user=ada)


def test_only_what_this_server_can_look_into_is_read_again(db, ada, joined):
    hub = external_register(owner=ada, source="NAME/MODEL")
    with pytest.raises(ValueError, match="A hub model is read by the node that loads it"):
        external_reread(external_id=hub.pk, user=ada)
    joined("far")
    Node.objects.update(local=False)
    there = external_register(owner=ada, source="/models/x", node="far")
    with pytest.raises(ValueError, match="lies on far, and this server cannot look into it"):
        external_reread(external_id=there.pk, user=ada)


def test_it_is_forgotten_and_its_files_stay(external, folder, launch, ada, bob):
    run = launch("child", model={"name": f"external:{external.pk}"})
    with pytest.raises(ValueError, match="It stays: child needs it and has not ended"):
        external_delete(external_id=external.pk, user=ada)
    run_stop(run_id=run.pk, user=ada)
    with pytest.raises(PermissionDenied):
        external_delete(external_id=external.pk, user=bob)
    external_patch(external_id=external.pk, user=ada, changes={"pinned": True})
    with pytest.raises(ValueError, match="It is pinned"):
        external_delete(external_id=external.pk, user=ada)
    external_patch(external_id=external.pk, user=ada, changes={"pinned": False})
    external_delete(external_id=external.pk, user=ada)
    assert (folder / "config.json").is_file() and not External.objects.exists()
    assert RegistryChange.objects.order_by("pk").last().what == "deleted"
    assert Run.objects.get().spec["model"]["name"] == f"external:{external.pk}"


def test_pages_of_a_list_know_how_many_there_are(db, ada):
    for number in range(5):
        external_register(owner=ada, source=f"NAME/M{number}")
    for page, shown in ((1, 2), (2, 2), (3, 1), (4, 0)):
        found, count = externals_list(page=page, per_page=2)
        assert (len(found), count) == (shown, 5)
    assert externals_list(per_page=5)[1] == externals_list(per_page=9)[1] == 5
    assert externals_list(q="nothing")[1] == 0
