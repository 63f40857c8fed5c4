"""Tasks of lm-evaluation-harness that are local files: checked, and built without a download or foreign code.

A task is `NAME.yaml` in the folder that `ANNEAL_HARNESS_DIR` names, or one of those in `recipes/harness`; its
data lie in the same folder. lm_eval is optional (`trainer/requirements-harness.txt`) and loaded in here only.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.methods import Row

FOLDER_VARIABLE = "ANNEAL_HARNESS_DIR"
SHIPPED = Path(__file__).parent / "recipes" / "harness"
CHOICES = "_choices"
"""Column with the texts that a row lets the model weigh behind its prompt; of `loglikelihood` the only one."""
COLUMN = "harness"
"""Column with what scoring needs of a task: its fields, the document, how many targets a document has."""
METRICS = {
    "generate_until": ("exact_match",),
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "exact_match"),
    "loglikelihood": ("acc",),
}
"""Kinds of tasks, with the metrics that give each document a number by itself."""
OVER_ALL = {"loglikelihood": ("perplexity",)}
"""Metrics that only all documents together have: a task may name them beside others, and they are left out."""
READERS = {"json": "from_json", "csv": "from_csv", "parquet": "from_parquet"}
FEWSHOT_SEED = 1234
"""With which the harness draws examples unless it is told otherwise."""
_TEMPLATES = ("doc_to_text", "doc_to_target", "doc_to_choice", "target_delimiter", "gen_prefix")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_SCORING = ("output_type", "generation_kwargs", "metric_list", "filter_list")
_TOLD = (
    "task",
    "task_alias",
    "tag",
    "metadata",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "repeats",
)
_FEWSHOT = ("description", "fewshot_delimiter", "fewshot_config", "num_fewshot")
KNOWN = frozenset({*_TEMPLATES, *_SPLITS, *_SCORING, *_TOLD, *_FEWSHOT})
"""Fields of a task that are understood; the others run code, show pictures or make groups."""
_FEWSHOT_KNOWN = frozenset(
    {"sampler", "split", "samples", "fewshot_indices", *_TEMPLATES, "fewshot_delimiter"}
)


def task_names() -> list[str]:
    """Names of the tasks that are here; whether each can be used is found when it is."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})


def task_rows(name: str) -> Iterator[Row]:
    """A row for each document of a task, with the prompt that the harness builds. Raises ValueError."""
    fields, folder = _fields(name)
    task = _built(fields, _data(fields, folder))
    task.set_fewshot_seed(FEWSHOT_SEED)
    kept = {key: fields[key] for key in (*_TEMPLATES, *_SCORING, "task") if key in fields}
    for number, doc in enumerate(task.eval_docs):
        shots = fields.get("num_fewshot") or 0
        context = task.fewshot_context(doc, num_fewshot=shots, gen_prefix=task.doc_to_prefix(doc))
        found = task.construct_requests(doc=doc, ctx=context, metadata=(name, number, 1))
        requests = found if isinstance(found, list) else [found]
        context = requests[0].args[0]
        weighs = fields["output_type"] != "generate_until"
        # As the harness encodes a pair: white space at the end belongs to what follows.
        prompt = context.rstrip() if weighs else context
        row: Row = {"id": f"{name}:{number}", "prompt": prompt, "answer": _gold(task, doc)}
        if weighs:
            if not all(isinstance(request.args[1], str) for request in requests):
                raise ValueError(
                    f"doc_to_target: document {number} gives {requests[0].args[1]!r:.80}, which is no text; write "
                    "a template that makes one"
                )
            row[CHOICES] = [context[len(prompt) :] + request.args[1] for request in requests]
        row[COLUMN] = {"fields": kept, "doc": doc, "targets": task.multiple_target}
        try:
            json.dumps(row)
        except TypeError as error:
            raise ValueError(f"{name}: document {number} is not plain JSON ({error})") from error
        yield row


def document_score(row: Row, results: list[Any], metric: str, filtered: str) -> float:
    """What a task's metric makes of one document: a text, or a pair (log-likelihood, greedy) for each choice.

    Raises ValueError that names the metric or the filter.
    """
    told = row[COLUMN]
    task, doc = _of_one(json.dumps(told, sort_keys=True))
    known = [one.name for one in task._filters]
    if filtered and filtered not in known:
        raise ValueError(f"filter: the task has {', '.join(known)}, not {filtered}")
    ensemble = task._filters[known.index(filtered) if filtered else 0]
    instance = importlib.import_module("lm_eval.api.instance").Instance
    requests = [
        instance("", doc, (), place, ("", 0, 1), resps=[one]) for place, one in enumerate(results)
    ]
    ensemble.apply(requests)
    found = task.process_results(doc, [one.filtered_resps[ensemble.name] for one in requests])
    name = metric or next(iter(task._metric_fn_list))
    if name not in found:
        raise ValueError(f"metric: the task measures {', '.join(found)}, not {name}")
    return float(found[name])


@lru_cache(maxsize=256)
def _of_one(told: str) -> tuple[Any, dict[str, Any]]:
    """The task with one document. Raises ValueError."""
    found = json.loads(told)
    datasets = importlib.import_module("datasets")
    one = {"test": datasets.Dataset.from_list([found["doc"]])}
    task = _built({**found["fields"], "test_split": "test"}, one)
    # The harness looks at the first document of all.
    task.multiple_target = found["targets"]
    return task, found["doc"]


def _gold(task: Any, doc: dict[str, Any]) -> str:
    """The right answer, as people read it."""
    gold = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None and isinstance(gold, int):
        return str(task.doc_to_choice(doc)[gold])
    return str(gold[0]) if isinstance(gold, list) and gold else str(gold)


def _folders() -> list[Path]:
    own = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(own).expanduser()] if own else []), SHIPPED]


def _fields(name: str) -> tuple[dict[str, Any], Path]:
    """The checked fields of a task with those of its metrics that documents have, and its folder."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(
            f"task: {name[:80]!r} is no name: give that of a file NAME.yaml, without its folder"
        )
    path = next((p for f in _folders() if (p := f / f"{name}.yaml").is_file()), None)
    if path is None:
        there = ", ".join(task_names()) or "none"
        raise ValueError(
            f"task: there is no {name}.yaml here (there are: {there}); {FOLDER_VARIABLE} names their folder"
        )
    yaml = _library("yaml")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        what = (
            "runs Python code (!function)"
            if "!function" in str(error)
            else "has a tag that is not plain YAML"
        )
        raise ValueError(
            f"task: {name}.yaml {what}, which is refused; give templates instead"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"task: {name}.yaml is not YAML: {' '.join(str(error).split())[:200]}"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(f"task: {name}.yaml holds no fields of a task")
    _check(fields)
    return fields, path.parent.resolve()


def _check(fields: dict[str, Any]) -> None:
    """Raises ValueError that names the field."""
    for key in fields:
        if key not in KNOWN:
            raise ValueError(
                f"{key}: a task with this field is not supported; it may run code, or include others"
            )
    kind = fields.setdefault("output_type", "generate_until")
    if kind not in METRICS:
        instead = "; the scorer perplexity reads whole texts" if "rolling" in str(kind) else ""
        raise ValueError(
            f"output_type: {kind} is not supported; use {' or '.join(METRICS)}{instead}"
        )
    if fields.get("repeats", 1) != 1:
        raise ValueError("repeats: must be 1; ask the evaluation for several samples instead")
    for key in fields.get("fewshot_config") or {}:
        if key not in _FEWSHOT_KNOWN:
            raise ValueError(f"fewshot_config.{key}: is not supported; it may run code")
    asked = fields.get("metric_list")
    if not isinstance(asked, list | None) or not all(isinstance(one, dict) for one in asked or ()):
        raise ValueError("metric_list: must be a list of metrics")
    over_all = OVER_ALL.get(kind, ())
    metrics = [one for one in asked or () if one.get("metric") not in over_all]
    for one in metrics:
        name = one.get("metric")
        if one.get("hf_evaluate") or name not in {n for some in METRICS.values() for n in some}:
            raise ValueError(
                f"metric_list: {name} is no metric that gives each document a number without a download; "
                f"use {', '.join(METRICS[kind])}"
            )
        if name not in METRICS[kind]:
            raise ValueError(f"metric_list: {kind} has {', '.join(METRICS[kind])}, not {name}")
    if asked and not metrics:
        raise ValueError(
            f"metric_list: {', '.join(over_all)} is of all documents together; add {METRICS[kind][0]}, or use "
            "the scorer log-likelihood"
        )
    if over_all and not metrics:
        metrics = [{"metric": METRICS[kind][0], "aggregation": "mean", "higher_is_better": True}]
    if metrics:
        fields["metric_list"] = metrics


def _data(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The documents of each split, read from local files. Raises ValueError."""
    reader = READERS.get(str(fields.get("dataset_path")))
    if reader is None:
        raise ValueError(
            f"dataset_path: {fields.get('dataset_path')} would be downloaded; use json, csv or parquet with "
            "dataset_kwargs.data_files"
        )
    options = fields.get("dataset_kwargs") or {}
    if not isinstance(options, dict) or set(options) != {"data_files"}:
        raise ValueError("dataset_kwargs: must hold data_files, and nothing else")
    named = options["data_files"]
    splits = named if isinstance(named, dict) else {"train": named}
    datasets = _library("datasets")
    datasets.disable_progress_bars()
    found: dict[str, Any] = {}
    for split, files in splits.items():
        paths = [_file(str(one), folder) for one in (files if isinstance(files, list) else [files])]
        with tempfile.TemporaryDirectory() as cached:
            try:
                found[split] = getattr(datasets.Dataset, reader)(
                    paths, cache_dir=cached, keep_in_memory=True
                )
            except Exception as error:
                raise ValueError(
                    f"dataset_kwargs.data_files: {split} cannot be read as {fields['dataset_path']}"
                ) from error
    for key in _SPLITS:
        if fields.get(key) is not None and fields[key] not in found:
            raise ValueError(
                f"{key}: {fields[key]} is none of the splits of data_files: {', '.join(found)}"
            )
    return found


def _file(name: str, folder: Path) -> str:
    path = (folder / name).resolve()
    if "://" in name or not path.is_relative_to(folder):
        raise ValueError(f"dataset_kwargs.data_files: {name} must lie in the folder of the task")
    if not path.is_file():
        raise ValueError(f"dataset_kwargs.data_files: there is no file {name} beside the task")
    return str(path)


def _built(fields: dict[str, Any], splits: dict[str, Any]) -> Any:
    """The harness's own task over these documents. Raises ValueError."""
    _library("lm_eval")
    _sandbox()
    plain = {
        key: value
        for key, value in fields.items()
        if key not in ("dataset_path", "dataset_kwargs", "tag")
    }
    config = json.loads(json.dumps(plain)) | {"custom_dataset": lambda **_: splits}
    try:
        task = importlib.import_module("lm_eval.api.task").ConfigurableTask(config=config)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"task: the harness cannot build it: {type(error).__name__}: {said}"
        ) from error
    if task.multiple_input:
        raise ValueError("doc_to_text: a task whose choices stand in the context is not supported")
    return task


@cache
def _sandbox() -> None:
    """Let the harness fill its templates in a sandbox: they come from a file that may be anybody's."""
    sandbox = importlib.import_module("jinja2.sandbox").ImmutableSandboxedEnvironment
    used: Any = importlib.import_module("lm_eval.utils")
    safe = sandbox(undefined=used.StrictUndefined, keep_trailing_newline=True)
    safe.filters["regex_replace"] = used.env.filters["regex_replace"]
    used.env = safe
    # It remarks on each task that is built, which here is one for each document.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"task: {name} is not installed on this machine; `pip install -r trainer/requirements-harness.txt`"
        ) from error
