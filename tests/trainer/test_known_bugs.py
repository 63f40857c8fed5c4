"""The list of known bugs is complete, and each row has its test or the feature that it waits for."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.node.inventory import PROCESSES_MOST
from tests.trainer.engine.support import tiny_spec
from trainer import registry
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ROWS = tomllib.loads((Path(__file__).parent / "known_bugs.toml").read_text())
NAME = re.compile(r"test_bug_(\d\d)_\w+")


def accepts(*overrides: str) -> bool:
    """Whether a spec with these settings is valid."""
    try:
        tiny_spec(*overrides)
    except SpecError:
        return False
    return True


def has_distillation() -> bool:
    """Whether some objective says that it learns from another model's distribution."""
    return any(_distils(tag, method) for tag, method in registry.family("objectives").items())


def _distils(tag: str, method: type[registry.Method]) -> bool:
    knobs = (field.description or "" for field in method.model_fields.values())
    words = " ".join((tag, method.__doc__ or "", *knobs)).lower()
    return "distil" in words or "teacher" in words


def spreads_over_gpus() -> bool:
    """Whether nodes start several processes for a run, or the engine speaks to others of its training.

    A spec may ask for several machines: it waits until a version can start it there.
    """
    engine = (ROOT / "trainer" / "engine").glob("*.py")
    return PROCESSES_MOST > 1 or any("torch.distributed" in p.read_text() for p in engine)


FEATURES: dict[str, Callable[[], bool]] = {
    "vllm": lambda: accepts("rollout.engine=vllm"),
    "several-gpus": spreads_over_gpus,
    "distillation": has_distillation,
}
"""What rows may wait for, with a look whether it is there."""


def bug_tests() -> Iterator[tuple[str, int]]:
    """Every test function of the repository that has a bug's number, as file::name."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                match = NAME.fullmatch(node.name)
                if match:
                    yield f"{path.relative_to(ROOT)}::{node.name}", int(match[1])


FOUND = dict(bug_tests())


def problems(rows: dict[str, dict[str, object]], found: dict[str, int]) -> list[str]:
    """What is wrong with a list of rows, given the tests that there are."""
    wrong = []
    missing = sorted(set(range(1, 51)) - {int(number) for number in rows})
    if missing or len(rows) != 50:
        wrong.append(f"the numbers 1 to 50, each once; missing: {missing}")
    listed: set[str] = set()
    for number, row in rows.items():
        tests, waits = row.get("tests", []), row.get("waits_for")
        assert isinstance(tests, list)
        listed |= set(tests)
        wrong += [f"{number}: no test {name}" for name in tests if name not in found]
        wrong += [f"{number}: {n} has another number" for n in tests if found.get(n) != int(number)]
        if not row.get("title"):
            wrong.append(f"{number}: no title")
        if bool(tests) == bool(waits):
            wrong.append(f"{number}: either tests or what it waits for")
        for key in ("waits_for", "partly_waits_for"):
            feature = row.get(key)
            if feature is None:
                continue
            if feature not in FEATURES:
                wrong.append(f"{number}: nobody knows how to see whether {feature} is there")
            elif FEATURES[str(feature)]():
                wrong.append(f"{number}: {feature} is there; write the test")
    wrong += [f"{name} is not in known_bugs.toml" for name in sorted(set(found) - listed)]
    return wrong


def test_every_known_bug_has_its_tests_or_waits_for_a_feature() -> None:
    assert problems(ROWS, FOUND) == []


@pytest.mark.parametrize("number", ROWS)
def test_the_files_that_cover_a_row_too_are_there(number: str) -> None:
    row = ROWS[number]
    assert set(row) <= {"title", "evidence", "tests", "also", "waits_for", "partly_waits_for"}
    assert all((ROOT / path).is_file() for path in row.get("also", []))
    assert all(re.fullmatch(r"[\w.-]+(#\d+| [\w.]+)", issue) for issue in row["evidence"])


def test_the_check_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {str(n): {"title": "x", "tests": [f"a::test_bug_{n:02}_x"]} for n in range(1, 51)}
    found = {f"a::test_bug_{n:02}_x": n for n in range(1, 51)}
    assert problems(good, found) == []
    without = {key: row for key, row in good.items() if key != "7"}
    assert len(problems(without, found)) == 2
    assert "no test" in problems(good, {k: v for k, v in found.items() if v != 9})[0]
    assert "not in known_bugs.toml" in problems(good, {**found, "b::test_bug_03_y": 3})[0]
    assert "another number" in problems({**good, "4": good["5"]}, found)[0]
    monkeypatch.setitem(FEATURES, "vllm", lambda: False)
    waiting = {**good, "34": {"title": "x", "waits_for": "vllm"}}
    rest = {key: value for key, value in found.items() if value != 34}
    assert problems(waiting, rest) == []
    monkeypatch.setitem(FEATURES, "vllm", lambda: True)
    assert problems(waiting, rest) == ["34: vllm is there; write the test"]
    partly = {**good, "36": {**good["36"], "partly_waits_for": "vllm"}}
    assert problems(partly, found) == ["36: vllm is there; write the test"]


def test_a_feature_is_seen_when_it_is_there() -> None:
    assert accepts("rollout.engine=native") and not accepts("rollout.engine=no-such-engine")
    assert accepts("resources.nodes=1")

    class Imitation(registry.Objective):
        """Learn from a larger model."""

        weight: float = 1.0
        """Weight of KL(teacher || policy)."""

    assert _distils("imitation", Imitation) and not _distils(
        "sft", registry.family("objectives")["sft"]
    )
