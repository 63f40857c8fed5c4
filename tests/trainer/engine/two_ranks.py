"""Steps of a training that two real processes share, for tests that compare them with one process.

`python -m tests.trainer.engine.two_ranks OUT`: starts its second rank itself, computes every case on both, and
leaves what each rank found in OUT/rank-R.json and OUT/rank-R.safetensors.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from tests.trainer.engine.support import make_policy, nothing
from tests.trainer.known_bugs.support import Kept, make_learner, trained
from trainer.engine.means import Means
from trainer.engine.mute import Mute
from trainer.engine.orders import Orders
from trainer.engine.ranks import ALONE, Ranks, join, leave
from trainer.engine.session import Session
from trainer.engine.sharding import full, shard
from trainer.engine.update import optimizer_step
from trainer.rundir import RunDir
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVERAL = ["resources.gpus=0", "resources.processes=2"]
RAGGED = ["batch.prompts_per_step=5", "batch.tokens_per_microbatch=40"]
"""Shares of two and three prompts, several micro-batches for each rank."""
BATCHES: dict[str, list[str]] = {
    "top entropy": ["objective.type=grpo", "objective.top_entropy=0.4"],
    "terms beside": [
        "objective.type=grpo",
        "objective.beta=0.1",
        "objective.entropy_coef=0.05",
        "objective.aggregation=sequence-mean",
        "objective.mask_truncated=true",
    ],
    "batch std": ["objective.type=grpo", "advantage.type=batch-mean"],
    "truncated sampling": ["objective.type=grpo", "rollout.top_p=0.8", "rollout.temperature=0.7"],
    "minibatches": ["objective.type=grpo", "batch.minibatches=2"],
    "greedy": ["objective.type=grpo", "advantage.type=remax"],
    "noise": ["objective.type=sft", "objective.neftune_alpha=5"],
}
QUIET: dict[str, list[int]] = {"quiet group": [0, 1, 2, 3], "one heard": list(range(4, 20))}
"""Answers without an advantage; in the last case all that are left belong to one rank."""
DIVIDED = (
    "grpo token-mean",
    "sft",
    "dpo",
    "aot",
    "kto",
    "top entropy",
    "terms beside",
    "one heard",
    "quiet all",
)
"""Cases that are computed on a divided model as well."""


def cases() -> dict[str, tuple[list[str], list[int]]]:
    """Overrides of the tiny spec, and the answers that are made silent, by name."""
    found = {name: (list(overrides), list[int]()) for name, overrides in trained().items()}
    found |= {name: (overrides, []) for name, overrides in BATCHES.items()}
    found |= {name: (["objective.type=grpo"], quiet) for name, quiet in QUIET.items()}
    found["quiet all"] = (["objective.type=grpo"], list(range(20)))
    return found


def possible(overrides: list[str]) -> bool:
    """Whether several processes may train so."""
    from tests.trainer.engine.support import tiny_spec

    try:
        tiny_spec(*overrides, *RAGGED, *SEVERAL)
    except SpecError:
        return False
    return True


def step(session: Session, overrides: list[str], quiet: list[int]) -> dict[str, Any]:
    """One optimizer step that moves nothing: gradient, metrics, and the answers it learned from."""
    ranks = session.ranks
    policy = make_policy()
    if ranks.sharded:
        shard(policy, ranks)
    learner, state = make_learner(session, policy, *overrides, *RAGGED)
    means = Means()
    values = learner.gather(state, means)
    if quiet:
        learner.buffer.advantage_NA[quiet] = 0
    parameters = [parameter for _, parameter in policy.parameters()]
    kept = Kept(parameters)
    values |= optimizer_step(
        policy,
        kept,
        learner.losses(state, means),
        means,
        lr=0.0,
        max_grad_norm=0.0,
        tick=nothing,
        ranks=ranks,
    )
    pieces = [
        torch.zeros(parameter.shape) if gradient is None else full(gradient)
        for parameter, gradient in zip(parameters, kept.gradients, strict=True)
    ]
    buffer = getattr(learner, "buffer", None)
    return {
        "gradient": torch.cat([piece.flatten() for piece in pieces]),
        "values": means.values() | values,
        "answers": None if buffer is None else buffer.sequences.answers,
    }


def session_of(folder: Path, ranks: Ranks = ALONE) -> Session:
    run = RunDir(folder)
    attempt = run.attempt(1)
    return Session(run, attempt, Mute(), Orders(run, attempt), ranks=ranks)


def results(folder: Path, ranks: Ranks) -> Iterator[tuple[str, dict[str, Any]]]:
    session = session_of(folder, ranks)
    for name, (overrides, quiet) in cases().items():
        if possible(overrides):
            yield name, step(session, overrides, quiet)
    divided = session_of(folder, replace(ranks, sharded=True))
    for name in DIVIDED:
        yield f"divided {name}", step(divided, *cases()[name])


def waited(ranks: Ranks) -> int:
    """How often the first rank did something else while it waited for the other one."""
    calls: list[float] = []
    if ranks.first:
        ranks = replace(ranks, waiting=lambda: calls.append(time.monotonic()))
    else:
        time.sleep(0.5)
    ranks.wait()
    return len(calls)


def main(out: Path, rank: int, port: int) -> None:
    torch.set_num_threads(1)
    listening = other = None
    if rank == 0:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        command = [sys.executable, "-m", "tests.trainer.engine.two_ranks", str(out)]
        other = subprocess.Popen([*command, "1", str(port)])
    ranks = join(rank, 2, port, torch.device("cpu"), listening)
    found = dict(results(out / f"run-{rank}", ranks))
    told = {
        "told": ranks.told({"from": rank}),
        "gathered": [
            [{name: value.tolist() for name, value in tensors.items()}, note]
            for tensors, note in ranks.gather({"a": torch.arange(rank + 1)}, [rank, float("inf")])
        ],
        "most": ranks.most(3 * rank),
        "waited": waited(ranks),
        "steps": {
            name: {"values": one["values"], "answers": one["answers"]}
            for name, one in found.items()
        },
    }
    (out / f"rank-{rank}.json").write_text(json.dumps(told))
    save_file(
        {name: one["gradient"] for name, one in found.items()}, out / f"rank-{rank}.safetensors"
    )
    leave()
    if other is not None and other.wait() != 0:
        raise SystemExit("the other rank failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(map(int, sys.argv[2:]) if len(sys.argv) > 2 else (0, 0)))
