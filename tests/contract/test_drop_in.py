"""Dropping a method's file in is the whole registration: the trainer's half of that promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MIRROR = '''\
"""Mirror: pay for an answer that is the prompt backwards."""

from typing import Literal

from pydantic import Field

from trainer.registry import Answer, Reward


class Mirror(Reward):
    """Pay 1 for the reversed prompt."""

    type: Literal["mirror"] = "mirror"

    sharpness: float = Field(1.0, gt=0, le=9)
    """Exponent of the share of characters that are right. Healthy: 1 to 3. Source: our own."""

    def score(self, answer: Answer) -> float:
        """The share of characters that are right, raised to the sharpness."""
        wanted = answer.prompt[::-1]
        right = sum(one == two for one, two in zip(answer.text, wanted))
        return (right / max(1, len(wanted))) ** self.sharpness
'''

LOSS = '''\
"""Chasm: a margin loss on preference pairs."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import Loss, Objective


class Chasm(Objective):
    """Push the chosen answer above the rejected one by a margin."""

    type: Literal["chasm"] = "chasm"
    learns_from: ClassVar = "pairs"
    needs: ClassVar = frozenset({"reference"})

    margin: float = Field(1.0, gt=0)
    """How far apart the two must be. Unit: nats."""

    def token_weights(self, batch):
        """Not used."""
        return batch.chosen_mask_BT.float()

    def loss(self, batch):
        """Never called here."""
        raise NotImplementedError
'''


def trainer(
    *arguments: str, methods: Path | None = None, root: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("ANNEAL_METHODS", "COVERAGE")
    }
    environment["PYTHONPATH"] = str(root)
    if methods is not None:
        environment["ANNEAL_METHODS"] = str(methods)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SCHEMA = (
    "import json; from trainer.spec import RunSpec; print(json.dumps(RunSpec.model_json_schema()))"
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the trainer that a test may change."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "trainer", tmp_path / "copy" / "trainer", ignore=ignore)
    return tmp_path / "copy"


def assert_registered(family: str, tag: str, knob: str, spec: str, **where: Path | None) -> None:
    listed = trainer("-m", "trainer", "catalog", "--json", **where)
    assert listed.returncode == 0, listed.stderr
    entries = {
        (entry["family"], entry["type"]): entry for entry in json.loads(listed.stdout)["methods"]
    }
    assert knob in [item["name"] for item in entries[(family, tag)]["knobs"]]
    schema = trainer("-c", SCHEMA, **where)
    assert f'"const": "{tag}"' in schema.stdout, schema.stderr
    folder = where.get("root") or where.get("methods")
    assert folder is not None
    path = folder / "spec-of-test.toml"
    path.write_text(spec)
    checked = trainer("-m", "trainer", "validate", str(path), **where)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    path.write_text(spec.replace(f"{knob} = ", f"{knob}x = "))
    refused = trainer("-m", "trainer", "validate", str(path), **where)
    assert refused.returncode == 2
    assert f"{knob}x" in refused.stdout + refused.stderr


REWARD_SPEC = """\
name = "mirror"
[[rewards]]
type = "mirror"
sharpness = 2.0
"""
LOSS_SPEC = """\
name = "chasm"
[objective]
type = "chasm"
margin = 2.0
[batch]
prompts_per_step = 8
"""


def test_a_file_in_a_family_is_a_method(copy: Path) -> None:
    (copy / "trainer" / "rewards" / "mirror.py").write_text(MIRROR)
    assert_registered("rewards", "mirror", "sharpness", REWARD_SPEC, root=copy)


def test_a_loss_in_its_family_is_a_method(copy: Path) -> None:
    (copy / "trainer" / "objectives" / "chasm.py").write_text(LOSS)
    assert_registered("objectives", "chasm", "margin", LOSS_SPEC, root=copy)


def test_a_file_in_the_users_folder_is_a_method(tmp_path: Path) -> None:
    (tmp_path / "mirror.py").write_text(MIRROR)
    assert_registered("rewards", "mirror", "sharpness", REWARD_SPEC, methods=tmp_path)


def test_the_users_folder_may_be_divided_by_family(tmp_path: Path) -> None:
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "chasm.py").write_text(LOSS)
    assert_registered("objectives", "chasm", "margin", LOSS_SPEC, methods=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("glass.py", MIRROR, 'its type is "mirror" but the file\'s name says "glass"'),
        (
            "exact_match.py",
            MIRROR.replace("mirror", "exact-match"),
            "already has a method 'exact-match'",
        ),
        ("two.py", MIRROR + MIRROR.replace("class Mirror", "class Two"), "holds 2 methods"),
        ("none.py", '"""Nothing."""\n', "holds 0 methods"),
        ("mirror.py", MIRROR + "\n1 / 0\n", "ZeroDivisionError"),
        ("mirror.py", "def (\n", "SyntaxError"),
    ],
)
def test_a_faulty_file_is_named(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    failed = trainer("-c", "import trainer.spec", methods=tmp_path)
    assert failed.returncode != 0
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert str(tmp_path / name) in last
    assert sentence in last


def test_a_users_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    failed = trainer("-c", "import trainer.spec", methods=tmp_path / "nowhere")
    assert "is not a folder" in failed.stderr


def test_a_method_of_the_user_has_a_hash_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mirror.py").write_text(MIRROR)
    show = "from trainer.registry import hashes; print(hashes()['rewards/mirror'])"
    first = trainer("-c", show, methods=tmp_path).stdout
    (tmp_path / "mirror.py").write_text(MIRROR + "# changed\n")
    changed = trainer("-c", show, methods=tmp_path).stdout
    assert first != changed != ""
    # What several methods share decides as much as their own files.
    (tmp_path / "_shared.py").write_text("HALF = 0.5\n")
    assert trainer("-c", show, methods=tmp_path).stdout not in (first, changed, "")
