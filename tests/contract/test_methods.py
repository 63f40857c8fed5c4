"""What every method must keep: help under every knob, a light import, one small file, a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import registry
from trainer.catalog import catalog, spec_sections

ROOT = Path(__file__).parents[2]
TRAINER = ROOT / "trainer"
HEAVY = {
    "torch",
    "transformers",
    "vllm",
    "peft",
    "trl",
    "datasets",
    "math_verify",
    "pyarrow",
    "numpy",
}
ACROSS_MODULES = {
    "test_every_method.py": ("registry.py", "__main__.py"),
    "engine/test_commands.py": ("__main__.py",),
    "engine/test_kills.py": ("engine/saving.py", "engine/resume.py"),
    "engine/test_learners.py": ("engine/online.py", "engine/pairs.py", "engine/demonstrations.py"),
    "engine/test_resume.py": ("engine/checkpoint.py", "engine/loop.py"),
}
"""Tests of what several modules promise together."""
FAMILY_FILES = sorted(
    path for family in registry.FAMILIES for path in (TRAINER / family).glob("*.py")
)


@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: f"{entry.family}/{entry.type}")
def test_every_method_and_knob_explains_itself(entry) -> None:  # type: ignore[no-untyped-def]
    assert entry.origin.endswith((".", ")")), f"{entry.file}: the first line says what it does"
    assert entry.summary.endswith(".")
    for knob in entry.knobs:
        assert len(knob.help) > 10, f"{entry.file}: {knob.name} has no help text"


@pytest.mark.parametrize("section", spec_sections(), ids=lambda section: section.name or "top")
def test_every_knob_of_the_spec_explains_itself(section) -> None:  # type: ignore[no-untyped-def]
    assert section.summary
    for knob in section.knobs:
        assert len(knob.help) > 5, f"{section.name}.{knob.name} has no help text"


@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: f"{entry.family}/{entry.type}")
def test_a_knob_called_after_a_count_names_its_unit(entry) -> None:  # type: ignore[no-untyped-def]
    for knob in entry.knobs:
        if re.search(r"(^|_)(tokens|steps|characters|seconds|minutes)$", knob.name):
            assert knob.unit, f"{entry.file}: {knob.name} has no line `Unit: ...`"


@pytest.mark.parametrize("path", FAMILY_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_family_file_imports_nothing_heavy_and_no_other_part(path: Path) -> None:
    own = f"trainer.{path.parent.name}"
    for node in _at_module_level(ast.parse(path.read_text())):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
        for name in names:
            assert name.split(".")[0] not in HEAVY, f"{path}: imports {name} at module level"
            if name.split(".")[0] == "trainer":
                assert name in ("trainer.registry", own) or name.startswith(f"{own}."), (
                    f"{path}: imports {name}; a method imports trainer.registry only"
                )


def _at_module_level(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported: those under TYPE_CHECKING and in functions do not."""
    return [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]


def test_the_spec_and_the_catalogue_load_without_anything_heavy() -> None:
    code = (
        "import sys, trainer.spec, trainer.catalog, trainer.recipebook, trainer.specfile\n"
        "trainer.catalog.catalog_data(); trainer.recipebook.recipes()\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_file_of_the_trainer_is_over_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in TRAINER.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_every_test_of_the_trainer_mirrors_a_module() -> None:
    """tests/trainer/X/test_Y.py tests trainer/X/Y.py; test_X.py in a folder X tests the whole folder.

    Known bugs go by theme and number instead: tests/trainer/test_known_bugs.py sees to them.
    """
    tests = ROOT / "tests" / "trainer"
    strays = []
    for path in tests.rglob("test_*.py"):
        if path.parent.name == "known_bugs" or path == tests / "test_known_bugs.py":
            continue
        covered = ACROSS_MODULES.get(path.relative_to(tests).as_posix(), ())
        if covered and all((TRAINER / module).exists() for module in covered):
            continue
        name, folder = path.stem.removeprefix("test_"), path.relative_to(tests).parent
        place = TRAINER / folder
        whole_folder = name == folder.name and place.is_dir()
        aspect = any(
            name.startswith(known.stem.lstrip("_")) for known in place.glob("*.py")
        ) or name.endswith("_parity")
        if not (
            (place / f"{name}.py").exists() or (place / name).is_dir() or whole_folder or aspect
        ):
            strays.append(str(path.relative_to(ROOT)))
    assert strays == []


def test_every_method_has_a_test() -> None:
    """Of its own, or in the test of its whole family."""
    untested = [
        f"{entry.family}/{entry.file}"
        for entry in catalog()
        if not (
            (folder := ROOT / "tests" / "trainer" / entry.family) / f"test_{entry.file}"
        ).exists()
        and not (folder / f"test_{entry.family}.py").exists()
    ]
    assert untested == []
