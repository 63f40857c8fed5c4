"""KL to the reference: three estimates per token, and what each is a right gradient of.

With x = log pi - log pi_ref, tokens sampled from pi_old, ratio = pi / pi_old, expectations exact:

    term in the loss     E[value]       E[gradient] at pi = pi_old
    k1 = x               KL(pi||ref)    0
    k2 = x^2 / 2         about KL       grad KL(pi || ref)
    k3 = e^-x + x - 1    KL(pi||ref)    grad KL(ref || pi): the other direction
    ratio k1, ratio k3   KL(pi||ref)    grad KL(pi || ref), also for pi != pi_old
    ratio k2             about KL       neither
    -A logp, A = -k1     KL(pi||ref)    grad KL(pi || ref): KL in the reward

Of answers with several tokens these are the divergences of each next token, behind answers as they were
drawn. In the reward, where a return adds up what follows, a token answers for the later ones too: with
advantages from returns the gradient is that of KL between whole answers.

The tests check each row by enumeration. Where the sampler truncates (top_p, top_k, min_p), all three
policies are those of the kept set, and so is the divergence.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(log_ratio_BT: "torch.Tensor", estimator: Estimator) -> "torch.Tensor":
    """The estimate per token (B, T) from x = log pi - log pi_ref (J. Schulman, 2020)."""
    if estimator == "k1":
        return log_ratio_BT
    if estimator == "k2":
        return log_ratio_BT**2 / 2
    return (-log_ratio_BT).exp() + log_ratio_BT - 1


def kl_problem(estimator: Estimator, *, ratio: bool, place: str) -> str:
    """Why this combination does not hold the policy near the reference; "" when it does."""
    if place == "reward":
        if estimator != "k1":
            return (
                f'kl_in = "reward" with kl_estimator {estimator} has a wrong gradient; '
                'set kl_estimator = "k1"'
            )
        return ""
    if estimator == "k1" and not ratio:
        return "kl_estimator k1 without kl_ratio has no gradient; use k3 or set kl_ratio = true"
    if estimator == "k2" and ratio:
        return "kl_estimator k2 with kl_ratio has a wrong gradient; set kl_ratio = false"
    return ""
