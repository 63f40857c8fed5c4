"""Pass@k: answers are paid for what they add to the best of k (arXiv 2503.19595; 2505.15201; 2508.10751)."""

from math import comb
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainer.advantages._groups import grouped
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class PassAtK(Advantage):
    """Credit for raising the best reward among k answers, averaged over all sets of k of the group.

    For any reward, not only 0 and 1: the best of a set of k is what pass@k counts. All sets are summed in
    closed form, from ranks. With the whole group as the one set only its best answer is paid, by what it
    is ahead of the second; equal best answers get 0, as either could go.
    """

    type: Literal["pass-at-k"] = "pass-at-k"
    formula: ClassVar[str] = (
        "leave-one-out: A_i = mean over sets S of k with i of max S - max S\\i; "
        "mean: A_i = (mean over S with i of max S - mean over all S) / (std over all S + eps)"
    )

    k: int = Field(0, ge=0, json_schema_extra={"basic": True})
    """Answers per set; 0 or more than the group holds means the whole group. Healthy: 2 to half the
    group, so that a group has many sets. Source: arXiv 2508.10751 (k = 4 of 16); 2503.19595 (the group)."""
    baseline: Literal["leave-one-out", "mean"] = "leave-one-out"
    """What the best of a set is compared with: the best of the set without the answer, which leaves the
    gradient of pass@k unbiased up to the factor k; or the mean over all sets, over their deviation, which
    also punishes wrong answers. Source: arXiv 2503.19595; 2505.15201 (leave-one-out);
    2508.10751 (mean)."""
    eps: float = Field(1e-4, gt=0)
    """Added to the deviation over all sets. Healthy: 1e-4; published code adds none."""

    @model_validator(mode="after")
    def _sets_can_be_compared(self) -> Self:
        if self.baseline == "leave-one-out" and self.k == 1:
            raise ValueError(
                "a set of one has no best without its answer: k must be 0 or at least 2"
                ' with baseline "leave-one-out"'
            )
        if self.baseline == "mean" and self.k == 0:
            raise ValueError(
                'the whole group is a single set, so that baseline "mean" gives every answer 0:'
                " k must be at least 1 and below the group's size"
            )
        return self

    def objection(self, group_size: int) -> str:
        """With `mean`, one set that is the whole group gives every answer 0."""
        if self.baseline == "mean" and self.k >= group_size:
            return f"k: sets of {self.k} need groups of more answers; use less than {group_size}"
        return ""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable answers, lone answers and all-equal groups get 0."""
        import torch

        groups = grouped(outcomes.total_N, outcomes.group_N)
        advantage_N = torch.zeros_like(groups.score_N)
        of_group = self._less_one if self.baseline == "leave-one-out" else self._less_mean
        for group in (~groups.silent_G).nonzero().flatten().tolist():
            members = (groups.heard_N & (groups.group_N == group)).nonzero().flatten()
            rising = groups.score_N[members].argsort(stable=True)
            members = members[rising]
            advantage_N[members] = of_group(groups.score_N[members])
        return advantage_N.to(outcomes.reward_N.dtype)

    def _less_one(self, reward_n: "torch.Tensor") -> "torch.Tensor":
        """Of a group's n rewards, rising: the mean gain over sets of k - 1 of the others."""
        n = len(reward_n)
        k = min(self.k or n, n)
        # Of the sets of k - 1 others, those whose best is j, for every j below the answer.
        chance_n = reward_n.new_tensor([comb(j, k - 2) / comb(n - 1, k - 1) for j in range(n)])
        ahead_nn = (reward_n[:, None] - reward_n[None, :]).tril()
        return ahead_nn @ chance_n

    def _less_mean(self, reward_n: "torch.Tensor") -> "torch.Tensor":
        """Of a group's n rewards, rising: the standardised mean best of the sets that hold each answer."""
        import torch

        n = len(reward_n)
        k = min(self.k, n)
        best_n = reward_n.new_tensor([comb(j, k - 1) / comb(n, k) for j in range(n)])
        if reward_n[k - 1] == reward_n[-1]:
            return torch.zeros_like(reward_n)  # every set has the same best
        gain_n = reward_n - best_n @ reward_n
        std = (best_n @ gain_n**2).sqrt()
        # Sets that hold the answer: it is their best, or a better one j is.
        own_n = reward_n.new_tensor([comb(j, k - 1) / comb(n - 1, k - 1) for j in range(n)])
        other_n = reward_n.new_tensor(
            [
                comb(j - 1, k - 2) / comb(n - 1, k - 1) if min(j, k - 1) > 0 else 0.0
                for j in range(n)
            ]
        )
        better_n = (other_n * gain_n).expand(n, n).triu(1).sum(1)
        return (own_n * gain_n + better_n) / (std + self.eps)
