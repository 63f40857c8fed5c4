"""AdamW: torch's own, with decay on matrices alone."""

from __future__ import annotations

import torch

from trainer.registry import family


def test_it_takes_the_step_of_torchs_adamw_and_spares_vectors_from_decay() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    knobs = family("optimizers")["adamw"](type="adamw", lr=0.01, weight_decay=0.1)
    optimizer = knobs.build(ours.named_parameters())
    reference = torch.optim.AdamW(
        [
            {"params": [theirs.weight], "weight_decay": 0.1},
            {"params": [theirs.bias], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    for step in range(3):
        data = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        for model, steps in ((ours, optimizer), (theirs, reference)):
            steps.zero_grad()
            (model(data) ** 2).sum().backward()
            steps.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
