"""ReMax: the reward of the greedy answer is the baseline (arXiv 2310.10505, algorithm 1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.registry import Advantage, Need

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class ReMax(Advantage):
    """Reward minus the reward of the greedy answer to the same prompt.

    Groups play no part, so one sampled answer per prompt will do: a lone answer is judged by the greedy
    one, and so is each answer of an all-equal group; both get 0 where the greedy answer earned as much.
    """

    type: Literal["remax"] = "remax"
    needs: ClassVar[frozenset[Need]] = frozenset({"greedy"})
    formula: ClassVar[str] = "A_i = r_i - r_greedy"

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); 0 where the answer or its greedy answer is unscorable."""
        assert outcomes.greedy_N is not None, "the engine supplies what `needs` names"
        advantage_N = outcomes.total_N.double() - outcomes.greedy_N.double()
        scorable_N = advantage_N.isfinite()
        return advantage_N.masked_fill(~scorable_N, 0.0).to(outcomes.reward_N.dtype)
