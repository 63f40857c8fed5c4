"""Ratings as tables and figures of a page."""

from __future__ import annotations

from typing import Any

TITLES = {"people": "People's votes", "models": "Judge models"}
FEATURES = {"length": "Length", "headers": "Headers", "lists": "List items", "bold": "Bold"}


def blocks_shown(found: dict[str, Any]) -> list[dict[str, Any]]:
    """People's block, and the judge models' where there is one."""
    shown = [kind for kind in TITLES if kind == "people" or _any(found[kind])]
    return [_block(kind, found[kind], found["arms"]) for kind in shown]


def figure_of(block: dict[str, Any]) -> list[dict[str, Any]]:
    """What the chart draws: the best model first."""
    return [
        {"arm": one["arm"], "rating": one["rating"], "interval": one["interval"]}
        for one in block["ratings"]
    ]


def _any(block: dict[str, Any]) -> bool:
    return bool(block["votes"] or block["gold"] or block.get("failed"))


def _block(kind: str, block: dict[str, Any], arms: list[str]) -> dict[str, Any]:
    order = [one["arm"] for one in block["ratings"]] or arms
    return {
        **block,
        "kind": kind,
        "title": TITLES[kind],
        "order": order,
        "matrix": _matrix(block["wins"], order),
        "style": [{**one, "label": FEATURES[one["feature"]]} for one in block["style"]],
        "judge_rows": [_judge(one) for one in block["agreement"]],
    }


def _matrix(wins: list[dict[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """One row a model: its share of wins against each other one, ties counted half."""
    met = {(one["arm"], one["against"]): one for one in wins}
    rows = []
    for arm in order:
        cells = []
        for other in order:
            one = met.get((arm, other))
            if one is None:
                cells.append({"other": other, "own": arm == other, "votes": 0})
                continue
            ties = one["ties"] + one["both_bad"]
            share = (one["wins"] + ties / 2) / one["votes"]
            words = f"{one['wins']} won, {one['losses']} lost, {ties} neither"
            cells.append({"other": other, "share": share, "votes": one["votes"], "words": words})
        rows.append({"arm": arm, "cells": cells})
    return rows


def _judge(one: dict[str, Any]) -> dict[str, Any]:
    known = [other for other in one["kappas"] if other["kappa"] is not None]
    shared = sum(other["shared"] for other in known)
    mean = sum(other["kappa"] * other["shared"] for other in known) / shared if shared else None
    words = ", ".join(
        f"{other['judge']}: {other['kappa']:.2f} on {other['shared']}" for other in known
    )
    return {**one, "kappa": mean, "kappa_words": words, "shared": shared}
