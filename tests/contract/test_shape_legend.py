"""Names of tensors end in their shape, and a legend says what each letter is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from trainer.registry import FAMILIES

TRAINER = Path(__file__).parents[2] / "trainer"
FILES = sorted(p for p in TRAINER.rglob("*.py") if p.name != "__init__.py")
SUFFIX = re.compile(r"[a-z0-9]_([A-Z1]{1,4})$")


def letters(tree: ast.Module) -> set[str]:
    """Every letter of a shape suffix that the module's names end in."""
    names = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr"):
            name = getattr(node, field, None)
            if isinstance(name, str) and (match := SUFFIX.search(name)):
                names |= set(match[1])
    return names - {"1"}


def legend(path: Path) -> str:
    """From the word Legend to the end of the module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("Legend")[2]


def test_there_are_shapes_to_explain() -> None:
    assert letters(ast.parse("def f(logp_BT, self): self.mask_NA = x_B1")) == set("BTNA")
    assert sum(bool(letters(ast.parse(path.read_text()))) for path in FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TRAINER).as_posix())
def test_every_letter_is_explained(path: Path) -> None:
    found = legend(path)
    if path.parent.name in FAMILIES:
        # Methods are short, and share one.
        found += legend(TRAINER / "methods.py")
    unsaid = {
        letter
        for letter in letters(ast.parse(path.read_text()))
        if not re.search(rf"\b{letter}\b", found)
    }
    assert not unsaid, f"{path}: say in a legend in its docstring what {sorted(unsaid)} count"
