"""Each preference loss has the value of a line of numpy on real pairs: sums where sums, means where means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.known_bugs.support import gathered, gradient, objectives

PAIRS = {name for name in objectives("pairs") if " " not in name}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def log_odds(logp):
    return logp - np.log1p(-np.exp(logp))


class Numbers:
    """Of each pair: chosen (w) and rejected (l), policy and reference; sums, means, lengths."""

    def __init__(self, examples, policy, reference):
        self.tokens = [
            [self.of_tokens(model, example, side) for model in (policy, reference)]
            for example in examples
            for side in (0, 1)
        ]
        self.collision = np.array([
            self.of_collision(policy, example, side) for example in examples for side in (0, 1)
        ])  # fmt: skip
        sums = np.array([[t.sum() for t in pair] for pair in self.tokens])
        self.lengths = np.array([len(pair[0]) for pair in self.tokens])
        means = sums / self.lengths[:, None]
        self.w, self.l = sums[0::2, 0] - sums[0::2, 1], sums[1::2, 0] - sums[1::2, 1]
        self.m = self.w - self.l
        self.mean_m = (means[0::2, 0] - means[0::2, 1]) - (means[1::2, 0] - means[1::2, 1])
        self.sum_w, self.sum_l = sums[0::2, 0], sums[1::2, 0]
        self.mean_w, self.mean_l = means[0::2, 0], means[1::2, 0]
        self.nll = -self.sum_w.sum() / self.lengths[0::2].sum()

    @staticmethod
    def logp_TV(policy, example, side):
        answer = example.answers[side]
        assert answer[-1] in policy.eos_ids and len(answer) > 1
        with torch.no_grad():
            ids = torch.tensor([example.prompt + answer])
            logits = policy.model(input_ids=ids, use_cache=False).logits[0]
        return logits[len(example.prompt) - 1 : -1].double().log_softmax(-1), answer

    def of_tokens(self, policy, example, side):
        logp_TV, answer = self.logp_TV(policy, example, side)
        return logp_TV.gather(1, torch.tensor(answer)[:, None])[:, 0].numpy()

    def of_collision(self, policy, example, side):
        logp_TV, answer = self.logp_TV(policy, example, side)
        logp_T = logp_TV.gather(1, torch.tensor(answer)[:, None])[:, 0]
        return float((logp_T - (2 * logp_TV).logsumexp(-1)).mean())

    def tail(self, alpha):
        """Margins whose tokens beyond the shorter answer's length count alpha."""
        found = []
        for first in range(0, len(self.tokens), 2):
            sides = self.tokens[first : first + 2]
            short = min(len(side[0]) for side in sides)
            w = [np.where(np.arange(len(side[0])) < short, 1, alpha) for side in sides]
            gains = [(w[i] * (sides[i][0] - sides[i][1])).sum() for i in (0, 1)]
            found.append(gains[0] - gains[1])
        return np.array(found)


def exo(n, knobs):
    p, e = sigmoid(knobs.beta * n.m), knobs.label_smoothing
    return p * (np.log(p) - np.log(1 - e)) + (1 - p) * (np.log(1 - p) - np.log(e))


def nca(n, knobs):
    w, r = knobs.beta * n.w, knobs.beta * n.l
    return -log_sigmoid(w) - (log_sigmoid(-w) + log_sigmoid(-r)) / 2


def smoothed(n, knobs, sign):
    u, e = knobs.beta * n.m, knobs.label_smoothing
    return -(1 - e) * log_sigmoid(u) - sign * e * log_sigmoid(-u)


def discopop(n, knobs):
    u = knobs.beta * n.m
    gate = sigmoid(u / knobs.tau)
    return (1 - gate) * -log_sigmoid(u) + gate * np.exp(-u)


def orpo(n, knobs):
    return n.nll - knobs.beta * log_sigmoid(log_odds(n.mean_w) - log_odds(n.mean_l))


def wpo(n, knobs):
    weight = np.exp(n.collision[0::2] + n.collision[1::2])
    return -weight * log_sigmoid(knobs.beta * n.m)


LOSSES = {
    "dpo": lambda n, k: -log_sigmoid(k.beta * n.m),
    "cdpo": lambda n, k: smoothed(n, k, 1),
    "robust-dpo": lambda n, k: smoothed(n, k, -1) / (1 - 2 * k.label_smoothing),
    "hinge": lambda n, k: np.maximum(0, 1 - k.beta * n.m),
    "ipo": lambda n, k: (n.mean_m - 1 / (2 * k.beta)) ** 2,
    "exo": exo,
    "nca": nca,
    "sppo": lambda n, k: (n.w - 0.5 / k.beta) ** 2 + (n.l + 0.5 / k.beta) ** 2,
    "apo-zero": lambda n, k: 1 - sigmoid(k.beta * n.w) + sigmoid(k.beta * n.l),
    "apo-down": lambda n, k: sigmoid(k.beta * n.w) + 1 - sigmoid(k.beta * n.m),
    "discopop": discopop,
    "dpo-norm": lambda n, k: -log_sigmoid(k.beta * n.mean_m),
    "ld-dpo": lambda n, k: -log_sigmoid(k.beta * n.tail(k.alpha)),
    "rpo": lambda n, k: -log_sigmoid(k.beta * n.m) - k.sft_weight * n.mean_w,
    "simpo": lambda n, k: -log_sigmoid(k.beta * (n.mean_w - n.mean_l) - k.gamma),
    "cpo": lambda n, k: -log_sigmoid(k.beta * (n.sum_w - n.sum_l)) + k.sft_weight * n.nll,
    "orpo": orpo,
    "wpo": wpo,
}


def lengthened(learner):
    """Some chosen answers longer than the rest: at one length a mean is a sum but for a factor."""
    for example in learner.examples[:2]:
        example.answers[0].insert(0, example.answers[0][0])


@pytest.mark.parametrize("name", LOSSES)
def test_bug_42_a_loss_has_the_value_of_its_formula(session, name):
    policy, reference = make_policy(), make_policy()
    learner, state, means = gathered(session, policy, *objectives()[name], nudge=0.03)
    lengthened(learner)
    numbers = Numbers(learner.examples, policy, reference)
    wanted = float(np.mean(LOSSES[name](numbers, learner.spec.objective)))
    loss, _, values = gradient(learner, state, means)
    assert loss == pytest.approx(wanted, rel=2e-5, abs=1e-6)
    assert values["logps/chosen"] == pytest.approx(numbers.sum_w.mean(), rel=1e-5)


def test_bug_42_no_two_losses_are_one_under_two_names(session):
    """A name that is read and then ignored would give plain DPO."""
    found = {}
    for name in PAIRS:
        policy = make_policy()
        learner, state, means = gathered(session, policy, *objectives()[name], nudge=0.2)
        lengthened(learner)
        found[name] = gradient(learner, state, means)[1]
    names = sorted(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not torch.allclose(found[one], found[other], rtol=1e-4), (one, other)
