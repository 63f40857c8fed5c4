"""Checkpoints of all runs as rows of a page, and how to load one."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, External, Run, Stage
from orchestrator.selectors.checkpoint_search import checkpoints_matching
from orchestrator.selectors.run_words import method_chips, spec_of
from orchestrator.selectors.saved import best_metric, best_saved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.selectors.checkpoint_search import Asked

TOLD = ("eval/reward", "eval/accuracy", "eval/pair_accuracy", "eval/loss")
"""Metrics with a column of their own, where any row of the page has them."""
TAGS_SHOWN = 8


def checkpoint_rows(
    asked: Asked, *, page: int = 1, per_page: int = 50
) -> tuple[list[dict[str, Any]], list[str], int]:
    """Rows newest first, the metrics that have a column, and how many rows there are in all."""
    found, named = checkpoints_matching(asked)
    count = found.count()
    start = (page - 1) * per_page
    shown = list(
        found.select_related("run", "run__owner").order_by("-created", "-step")[
            start : start + per_page
        ]
    )
    columns = [key for key in dict.fromkeys([*named, *TOLD]) if _any_has(shown, key)]
    best = _best_of_runs({one.run_id: one.run for one in shown})
    rows = [
        {
            "checkpoint": one,
            "chips": method_chips(spec_of(one.run)),
            "best": best[one.run_id] if best[one.run_id]["id"] == one.pk else None,
            "values": [(key, one.metrics.get(key)) for key in columns],
        }
        for one in shown
    ]
    return rows, columns, count


def checkpoint_marks(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The metric by which this is its run's best checkpoint; None when it is not."""
    best = _best_of_runs({checkpoint.run_id: checkpoint.run})[checkpoint.run_id]
    return best if best["id"] == checkpoint.pk else None


def load_text(folder: str, *, scores: bool) -> str:
    """Python that loads a checkpoint from a folder; `scores`: it is a reward model."""
    kind = "AutoModelForSequenceClassification" if scores else "AutoModelForCausalLM"
    return "\n".join(
        [
            f"from transformers import {kind}, AutoTokenizer",
            "",
            f"folder = {json.dumps(folder)}",
            f"model = {kind}.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
    )


def marks_used() -> tuple[list[tuple[str, int]], list[str]]:
    """How many kept models stand at each stage that any stands at, and the tags that most of them have."""
    stages: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for kind in (Checkpoint.objects.filter(deleted=None), External.objects.all()):
        marked = kind.exclude(stage=Stage.NONE, tags=[]).values_list("stage", "tags")
        for stage, theirs in marked:
            stages.update([stage])
            tags.update(theirs)
    shown = sorted(tags.items(), key=lambda one: (-one[1], one[0]))[:TAGS_SHOWN]
    counts = [(str(stage), stages[stage]) for stage in Stage.values if stage and stages[stage]]
    return counts, [tag for tag, _ in shown]


def export_texts(folder: str, *, adapter: bool) -> dict[str, str]:
    """Commands that export a checkpoint from a folder: `merge` where it is an adapter, and `push`."""
    place = shlex.quote(folder)
    merge = f"python -m trainer merge {place} --out merged"
    push = f"python -m trainer push {place} --to OWNER/NAME --private"
    return {"merge": merge if adapter else "", "push": f"{push} --merge" if adapter else push}


def fetch_text(listing: str, folder: str) -> str:
    """Python that downloads the files of a checkpoint by the API."""
    return "\n".join(
        [
            "import json, os, pathlib, shutil, urllib.request",
            "",
            f"listing = {json.dumps(listing)}",
            'token = os.environ["ANNEAL_TOKEN"]  # from your account page; scope read is enough',
            "",
            "def get(url):",
            '    headers = {"Authorization": f"Bearer {token}"}',
            "    return urllib.request.urlopen(urllib.request.Request(url, headers=headers))",
            "",
            "for name in json.load(get(listing)):",
            f"    path = pathlib.Path({json.dumps(folder)}, name)",
            "    path.parent.mkdir(parents=True, exist_ok=True)",
            '    with get(f"{listing}/{name}") as source, path.open("wb") as target:',
            "        shutil.copyfileobj(source, target)",
        ]
    )


def _any_has(shown: Iterable[Checkpoint], key: str) -> bool:
    return any(key in one.metrics for one in shown)


def _best_of_runs(runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """Of each run: which checkpoint is its best, and by which metric."""
    kept: dict[str, list[Checkpoint]] = {key: [] for key in runs}
    fields = ("id", "run_id", "step", "metrics")
    for one in Checkpoint.objects.filter(run__in=runs.values(), deleted=None).only(*fields):
        kept[one.run_id].append(one)
    found = {}
    for key, run in runs.items():
        by = best_metric(spec_of(run))
        best = best_saved(kept[key], by)
        found[key] = {"id": best.pk if best else None, "by": by}
    return found
