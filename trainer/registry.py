"""Finds methods: one file, one knob class, one registered method.

A method's file lies in a family's folder (`trainer/objectives/dpo.py`) or in the folder that
`ANNEAL_METHODS` names; its tag is the file's name with dashes (`type: Literal["dpo"]`). Dropping the
file in is the whole registration. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Field

from trainer.chat_service import ChatService, NoAnswer, side_by_side
from trainer.harness import CHOICES, COLUMN, document_score, task_names, task_rows
from trainer.methods import (
    Adapter,
    Advantage,
    Answer,
    Curriculum,
    Diagnostic,
    Guidance,
    Loss,
    Method,
    Need,
    Objective,
    Optimizer,
    Outcomes,
    Reward,
    Row,
    Schedule,
    Source,
    Transform,
    Unavailable,
    Unscorable,
)
from trainer.named_models import reward_folder
from trainer.rulings import Evaluator, Pair, Ruling

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "CHOICES",
    "COLUMN",
    "FAMILIES",
    "METHODS_VARIABLE",
    "Adapter",
    "Advantage",
    "Answer",
    "ChatService",
    "Curriculum",
    "Diagnostic",
    "Evaluator",
    "Guidance",
    "Loss",
    "Method",
    "Need",
    "NoAnswer",
    "Objective",
    "Optimizer",
    "Outcomes",
    "Pair",
    "Reward",
    "Row",
    "Ruling",
    "Schedule",
    "Source",
    "Transform",
    "Unavailable",
    "Unscorable",
    "document_score",
    "family",
    "hashes",
    "reward_folder",
    "side_by_side",
    "task_names",
    "task_rows",
    "union",
]

METHODS_VARIABLE = "ANNEAL_METHODS"

FAMILIES: dict[str, tuple[type[Method], ...]] = {
    "objectives": (Objective,),
    "advantages": (Advantage,),
    "rewards": (Reward,),
    "curricula": (Curriculum,),
    "guidance": (Guidance,),
    "optimizers": (Optimizer,),
    "adapters": (Adapter,),
    "schedules": (Schedule,),
    "data": (Source, Transform),
    "evaluators": (Evaluator,),
    "diagnostics": (Diagnostic,),
}


@cache
def family(name: str) -> dict[str, type[Method]]:
    """The methods of one family by tag, shipped ones first, each group in alphabetical order.

    Raises ImportError, naming the file, when a file breaks the rule of the registry.
    """
    bases = FAMILIES[name]
    found: dict[str, type[Method]] = {}
    for path in _shipped_files(name) + _user_files(name):
        shipped = path.parent == _folder(name)
        module = _import_shipped(name, path) if shipped else _import_user(name, path)
        method = _only_method(module, path, bases)
        if method is None:
            continue
        tag = tag_of(method)
        if tag in found:
            raise ImportError(
                f"{path}: the {name} family already has a method '{tag}'; rename yours"
            )
        found[tag] = method
    return found


def union(name: str, base: type[Method] | None = None) -> Any:
    """The pydantic type of a family: a union discriminated on `type`, for use as an annotation."""
    methods = [m for m in family(name).values() if base is None or issubclass(m, base)]
    if not methods:
        raise ImportError(f"trainer/{name} holds no method")
    if len(methods) == 1:
        return methods[0]
    return Annotated[Union[tuple(methods)], Field(discriminator="type")]  # noqa: UP007


def tag_of(method: type[Method]) -> str:
    """The value of the method's `type` field."""
    return str(get_args(method.model_fields["type"].annotation)[0])


def file_of(method: type[Method]) -> Path:
    """The file that holds the method."""
    return Path(inspect.getfile(method))


@cache
def hashes() -> dict[str, str]:
    """SHA-256 of each method's code, keyed `family/tag`: a node reports these, the scheduler compares.

    The code is the method's file and what lies beside it for several methods, the modules `_*.py`.
    """
    return {
        f"{name}/{tag}": _hash_of(file_of(method))
        for name in FAMILIES
        for tag, method in family(name).items()
    }


def _hash_of(file: Path) -> str:
    shared = sorted(path for path in file.parent.glob("_*.py") if path.name != "__init__.py")
    digest = hashlib.sha256()
    for path in [file, *shared]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def user_folder() -> Path | None:
    """The folder of the user's own methods, when `ANNEAL_METHODS` is set."""
    value = os.environ.get(METHODS_VARIABLE, "")
    if not value:
        return None
    folder = Path(value).expanduser().resolve()
    if not folder.is_dir():
        raise ImportError(f"{METHODS_VARIABLE}={value} is not a folder")
    return folder


def _folder(name: str) -> Path:
    return Path(__file__).parent / name


def _shipped_files(name: str) -> list[Path]:
    return sorted(p for p in _folder(name).glob("*.py") if not p.name.startswith("_"))


def _user_files(name: str) -> list[Path]:
    """`DIR/<family>/*.py`, and `DIR/*.py`, whose family is read off the base class."""
    folder = user_folder()
    if folder is None:
        return []
    files = [*folder.glob("*.py"), *(folder / name).glob("*.py")]
    return sorted(p for p in files if not p.name.startswith("_"))


def _import_shipped(name: str, path: Path) -> ModuleType:
    return importlib.import_module(f"trainer.{name}.{path.stem}")


@cache
def _import_user(name: str, path: Path) -> ModuleType:
    owner = path.parent.name if path.parent.name in FAMILIES else "any"
    module_name = f"anneal_methods.{owner}.{path.stem}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # pydantic resolves annotations and docstrings through sys.modules.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ImportError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _only_method(
    module: ModuleType, path: Path, bases: tuple[type[Method], ...]
) -> type[Method] | None:
    defined = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
        and "type" in value.model_fields
    ]
    if len(defined) != 1:
        raise ImportError(
            f"{path}: holds {len(defined)} methods with a `type`; a file holds exactly one"
        )
    method = defined[0]
    if not issubclass(method, bases):
        if path.parent == user_folder():
            return None
        wanted = " or ".join(base.__name__ for base in bases)
        raise ImportError(f"{path}: {method.__name__} must be a subclass of {wanted}")
    expected = path.stem.replace("_", "-")
    if tag_of(method) != expected:
        raise ImportError(
            f'{path}: its type is "{tag_of(method)}" but the file\'s name says "{expected}"; '
            "make them equal"
        )
    return method
