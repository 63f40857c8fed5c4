"""What every metric means: definition, unit, normaliser, healthy range and source.

`help_of(key)` answers for any key, patterns (`rewards/*/mean`) and the prefix `warmup/` included. No torch here:
the web application reads this file too. Means travel as (sum, n) and are divided once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

WARM_UP_PREFIX = "warmup/"


@dataclass(frozen=True)
class MetricHelp:
    """The help text of one metric."""

    title: str
    definition: str
    unit: str = ""
    normaliser: str = ""
    """What the sum is divided by, or how extrema and totals are taken."""
    healthy: str = ""
    source: str = ""
    better: str = ""
    """ "higher", "lower" or "" where neither is better."""


_TRL = "TRL's name and definition"
_ANSWERS, _TOKENS, _GROUPS = (
    "answers of the step",
    "answer tokens of the step",
    "groups of the step",
)
_PAIRS = "pairs of the step"

_EXACT: dict[str, MetricHelp] = {
    # --- every objective -------------------------------------------------------------------------
    "loss": MetricHelp(
        "Loss",
        "The value whose gradient is taken, over the whole optimizer batch. For policy gradients its size "
        "says nothing about quality; for SFT it is the mean negative log-likelihood.",
        "nats (SFT), none otherwise",
        "the objective's own normaliser, folded into token weights once per optimizer step",
        "SFT: falling; GRPO: near 0 whatever happens; DPO: from ln 2 = 0.693 downwards",
        _TRL,
        "lower",
    ),
    "grad_norm": MetricHelp(
        "Gradient norm",
        "Euclidean norm of the gradient of all trained weights before clipping.",
        "",
        "one value per optimizer step",
        "steady; a jump by ten or more announces instability",
        _TRL,
    ),
    "learning_rate": MetricHelp(
        "Learning rate",
        "The rate of this optimizer step: peak rate times the schedule's factor.",
        "",
        "one value per optimizer step",
        "1e-6 to 1e-5 above 1 B parameters, 1e-4 to 1e-3 for tiny models and LoRA",
        _TRL,
    ),
    "epoch": MetricHelp(
        "Epoch",
        "Rows visited so far over rows of the training data.",
        "epochs",
        "training rows",
        "",
        _TRL,
    ),
    "num_tokens": MetricHelp(
        "Tokens",
        "Prompt and answer tokens processed since the start of training, across attempts.",
        "tokens",
        "running total",
        "",
        _TRL,
    ),
    "entropy": MetricHelp(
        "Entropy",
        "Mean entropy of the next-token distribution. Online: of the distribution that was sampled from "
        "(temperature and top_p included), over all answer tokens. SFT: of the policy at answer tokens.",
        "nats per token",
        _TOKENS,
        "falls slowly; near 0 early in GRPO means that exploration has ended",
        _TRL,
    ),
    "mean_token_accuracy": MetricHelp(
        "Token accuracy",
        "Share of answer tokens for which the likeliest token is the demonstrated one.",
        "share",
        _TOKENS,
        "rising",
        _TRL,
        "higher",
    ),
    # --- rollouts --------------------------------------------------------------------------------
    "reward": MetricHelp(
        "Reward",
        "Mean total reward of the sampled training answers (weighted sum of the parts).",
        "reward",
        "scorable " + _ANSWERS,
        "rising; compare with eval/reward to see overfitting",
        _TRL,
        "higher",
    ),
    "reward_std": MetricHelp(
        "Reward spread in groups",
        "Standard deviation (n - 1) of the total reward inside a group, averaged over groups.",
        "reward",
        "groups with two scorable answers or more",
        "above 0: without spread there is no gradient",
        _TRL,
    ),
    "frac_reward_zero_std": MetricHelp(
        "Groups without spread",
        "Share of groups whose scorable answers all have the same reward: they teach nothing.",
        "share",
        _GROUPS,
        "below 0.5; high and solved: harder prompts; high and failed: easier prompts or more samples",
        _TRL,
        "lower",
    ),
    "kl": MetricHelp(
        "KL to the reference",
        "Estimate of KL(policy || reference) per token by the objective's estimator (k3 unless set).",
        "nats per token",
        _TOKENS,
        "0.001 to 0.1; only measured while beta is above 0",
        "J. Schulman, Approximating KL divergence, 2020; " + _TRL,
        "lower",
    ),
    "completions/mean_length": MetricHelp(
        "Answer length, mean", "Sampled tokens, end token included.", "tokens", _ANSWERS, "", _TRL
    ),
    "completions/min_length": MetricHelp(
        "Answer length, shortest",
        "Shortest sampled answer.",
        "tokens",
        "minimum of the step",
        "",
        _TRL,
    ),
    "completions/max_length": MetricHelp(
        "Answer length, longest",
        "Longest sampled answer.",
        "tokens",
        "maximum of the step",
        "",
        _TRL,
    ),
    "completions/mean_terminated_length": MetricHelp(
        "Ended answers, mean length",
        "Length of the answers that ended by themselves.",
        "tokens",
        "answers that ended with an end token",
        "",
        _TRL,
    ),
    "completions/min_terminated_length": MetricHelp(
        "Ended answers, shortest",
        "Shortest answer that ended by itself.",
        "tokens",
        "minimum",
        "",
        _TRL,
    ),
    "completions/max_terminated_length": MetricHelp(
        "Ended answers, longest",
        "Longest answer that ended by itself.",
        "tokens",
        "maximum",
        "",
        _TRL,
    ),
    "completions/clipped_ratio": MetricHelp(
        "Truncated answers",
        "Share of answers that ran into max_new_tokens.",
        "share",
        _ANSWERS,
        "below 0.1; otherwise raise max_new_tokens",
        _TRL,
        "lower",
    ),
    "clip_ratio/low_mean": MetricHelp(
        "Clipped low",
        "Share of tokens with a negative advantage whose ratio fell below 1 - clip_low.",
        "share",
        _TOKENS,
        "exactly 0 on the first update of a rollout; below 0.1 after",
        _TRL,
    ),
    "clip_ratio/high_mean": MetricHelp(
        "Clipped high",
        "Share of tokens with a positive advantage whose ratio rose above 1 + clip_high.",
        "share",
        _TOKENS,
        "exactly 0 on the first update of a rollout; below 0.1 after",
        _TRL,
    ),
    "clip_ratio/region_mean": MetricHelp(
        "Clipped", "Share of tokens clipped on either side.", "share", _TOKENS, "below 0.2", _TRL
    ),
    "groups/zero_adv_frac": MetricHelp(
        "Silent groups",
        "Share of groups in which every advantage is exactly 0.",
        "share",
        _GROUPS,
        "below 0.5",
        "Anneal; the waste that DAPO's dynamic sampling removes (arXiv 2503.14476, 3.2)",
        "lower",
    ),
    "groups/skipped_tokens_frac": MetricHelp(
        "Tokens skipped",
        "Share of answer tokens whose training forward was skipped because their gradient is exactly 0. "
        "They stay in every denominator.",
        "share",
        _TOKENS,
        "as high as groups/zero_adv_frac; 0 when a KL term needs every token",
        "Anneal",
    ),
    "rollout/logp_diff_mean": MetricHelp(
        "Sampler against trainer, mean",
        "Absolute difference of a sampled token's log-probability as the sampler recorded it and as the "
        "trainer computes it before the first update.",
        "nats per token",
        "answer tokens whose forward was not skipped",
        "below 1e-5 in float32, 1e-2 in bfloat16",
        "Anneal; NeMo-RL watches the same as gen_kl_error",
        "lower",
    ),
    "rollout/logp_diff_max": MetricHelp(
        "Sampler against trainer, worst",
        "The largest such difference of the step.",
        "nats",
        "maximum of the step",
        "below 1e-4 in float32",
        "Anneal",
        "lower",
    ),
    "ess": MetricHelp(
        "Effective sample size",
        "(sum w)^2 / (n sum w^2) of the token ratios w = pi / pi_old: 1 on policy.",
        "share",
        _TOKENS,
        "above 0.9",
        "A. Kong, 1992",
        "higher",
    ),
    # --- pairs -----------------------------------------------------------------------------------
    "rewards/chosen": MetricHelp(
        "Implicit reward, chosen",
        "beta times (log pi - log pi_ref) of the chosen answer, summed over its tokens.",
        "reward",
        _PAIRS,
        "rising or steady; falling together with rejected is a warning",
        _TRL,
        "higher",
    ),
    "rewards/rejected": MetricHelp(
        "Implicit reward, rejected",
        "The same of the rejected answer.",
        "reward",
        _PAIRS,
        "falling",
        _TRL,
    ),
    "rewards/margins": MetricHelp(
        "Margin",
        "Implicit reward of the chosen answer minus that of the rejected one.",
        "reward",
        _PAIRS,
        "rising from 0",
        _TRL,
        "higher",
    ),
    "rewards/accuracies": MetricHelp(
        "Pair accuracy",
        "Share of pairs with a positive margin; a tie counts half. Reaching 1 does not mean that sampled "
        "answers are right: look at eval/accuracy and logps/chosen.",
        "share",
        _PAIRS,
        "0.5 at the start, 0.7 to 1 later",
        _TRL,
        "higher",
    ),
    "logps/chosen": MetricHelp(
        "Log-probability, chosen",
        "Log-probability of the whole chosen answer under the policy.",
        "nats per answer",
        _PAIRS,
        "steady or rising; plain DPO lets it fall, an NLL term (sft_weight) holds it",
        _TRL,
        "higher",
    ),
    "logps/rejected": MetricHelp(
        "Log-probability, rejected",
        "Log-probability of the whole rejected answer under the policy.",
        "nats per answer",
        _PAIRS,
        "falling",
        _TRL,
    ),
    # --- time and machine ------------------------------------------------------------------------
    "time/step": MetricHelp(
        "Step time",
        "Wall time since the previous metrics line; the other time/ parts sum to it.",
        "s",
        "one value per step",
        "steady",
        "Anneal",
        "lower",
    ),
    "time/data": MetricHelp(
        "Data", "Choosing and encoding rows.", "s", "", "below 5 % of the step"
    ),
    "time/rollout": MetricHelp(
        "Rollout", "Sampling answers.", "s", "", "usually the largest part online"
    ),
    "time/reward": MetricHelp("Reward", "Scoring answers.", "s", "", "below 10 % of the step"),
    "time/logprob": MetricHelp(
        "Log-probabilities", "Forward passes without gradient: reference model.", "s"
    ),
    "time/update": MetricHelp("Update", "Forward and backward passes and the optimizer.", "s"),
    "time/sync": MetricHelp(
        "Weight push", "Handing new weights to the sampler; 0 with the native engine.", "s"
    ),
    "time/eval": MetricHelp("Evaluation", "Evaluation since the previous metrics line.", "s"),
    "time/checkpoint": MetricHelp("Checkpoint", "Saving since the previous metrics line.", "s"),
    "time/other": MetricHelp(
        "Other", "The rest, logging included.", "s", "", "below 2 % of the step"
    ),
    "tokens/rollout_per_s": MetricHelp(
        "Sampling speed",
        "Sampled tokens over the time spent sampling.",
        "tokens/s",
        "time/rollout",
        "",
        "",
        "higher",
    ),
    "tokens/train_per_s": MetricHelp(
        "Training speed",
        "Answer tokens learned from (skipped ones included) over the time of updates.",
        "tokens/s",
        "time/update",
        "",
        "",
        "higher",
    ),
    "mfu": MetricHelp(
        "Machine use",
        "Arithmetic of the model (6 operations per weight and trained token, 2 per sampled one) over what "
        "a large matrix product reached on this machine at start.",
        "share",
        "time/step",
        "0.3 to 0.5 on one GPU; tiny models stay far below",
        "PaLM, arXiv 2204.02311, appendix B, with a measured peak",
        "higher",
    ),
    "rss_mb": MetricHelp(
        "Memory", "Resident memory of the trainer.", "MiB", "at the end of the step"
    ),
    "gpu_mem_mb": MetricHelp(
        "GPU memory", "Largest allocated memory of the GPU so far.", "MiB", "maximum since start"
    ),
    # --- evaluation ------------------------------------------------------------------------------
    "eval/reward": MetricHelp(
        "Held-out reward",
        "Mean total reward of answers sampled on held-out prompts, with the same seeds at every evaluation.",
        "reward",
        "scorable answers of the source; without a source: sources by their weight",
        "rising",
        "",
        "higher",
    ),
    "eval/accuracy": MetricHelp(
        "Held-out accuracy",
        "Share of answers sampled on held-out prompts that match exactly (an exact reward of 1).",
        "share",
        "scorable answers of the source; without a source: sources by their weight",
        "rising",
        "",
        "higher",
    ),
    "eval/loss": MetricHelp(
        "Held-out loss",
        "The objective's loss on held-out rows: mean negative log-likelihood for demonstrations, the "
        "preference loss for pairs.",
        "nats per token (demonstrations)",
        "answer tokens (demonstrations) or pairs of the source",
        "falling; rising while loss falls is overfitting",
        "",
        "lower",
    ),
    "eval/pair_accuracy": MetricHelp(
        "Held-out pair accuracy",
        "Share of held-out pairs in which the policy prefers the chosen answer more than the reference does; "
        "a tie counts half.",
        "share",
        "pairs of the source",
        "above 0.5",
        _TRL + " (eval_rewards/accuracies)",
        "higher",
    ),
    "eval/margins": MetricHelp(
        "Held-out margin",
        "Implicit reward of the chosen minus the rejected held-out answer.",
        "reward",
        "pairs of the source",
        "rising",
        _TRL,
        "higher",
    ),
    "eval/mean_length": MetricHelp(
        "Held-out answer length",
        "Sampled tokens, end token included.",
        "tokens",
        "answers of the source",
    ),
    "eval/clipped_ratio": MetricHelp(
        "Held-out truncated answers",
        "Share of held-out answers that ran into the length limit.",
        "share",
        "answers of the source",
        "below 0.1",
        "",
        "lower",
    ),
    "eval/mean_token_accuracy": MetricHelp(
        "Held-out token accuracy",
        "Share of held-out answer tokens for which the likeliest token is the demonstrated one.",
        "share",
        "answer tokens of the source",
        "rising",
        "",
        "higher",
    ),
}

_PATTERNS: dict[str, MetricHelp] = {
    "rewards/*/mean": MetricHelp(
        "Reward part {0}, mean",
        "Mean score of the reward part {0} before its weight.",
        "reward",
        "answers that this part could score",
        "rising",
        _TRL,
        "higher",
    ),
    "rewards/*/std": MetricHelp(
        "Reward part {0}, spread",
        "Standard deviation (n - 1) of the scores of {0} over all answers.",
        "reward",
        "answers that this part could score",
        "above 0",
        _TRL,
    ),
    "rewards/*/none_frac": MetricHelp(
        "Reward part {0}, unscorable",
        "Share of answers that {0} could not score (time-outs included).",
        "share",
        _ANSWERS,
        "0",
        "Anneal",
        "lower",
    ),
    "eval/pass@*": MetricHelp(
        "pass@{0}",
        "Probability that at least one of {0} answers to a held-out prompt is right: the unbiased estimate "
        "1 - C(n - c, k) / C(n, k) from n samples with c right ones.",
        "share",
        "prompts of the source",
        "rising",
        "Codex, arXiv 2107.03374, equation 1",
        "higher",
    ),
    "eval/rewards/*/mean": MetricHelp(
        "Held-out reward part {0}",
        "Mean score of the reward part {0} on held-out prompts.",
        "reward",
        "answers that this part could score",
        "rising",
        "",
        "higher",
    ),
}


@lru_cache(maxsize=4096)
def help_of(key: str) -> MetricHelp:
    """The help of a metric; an unknown key gets a help that says so."""
    if key.startswith(WARM_UP_PREFIX):
        inner = help_of(key.removeprefix(WARM_UP_PREFIX))
        return replace(
            inner,
            title=f"Warm-up: {inner.title}",
            definition=f"During the warm-up, by its own steps: {inner.definition}",
        )
    found = _EXACT.get(key) or _match(key)
    if found is not None:
        return found
    if key.startswith("eval/"):
        # eval/SOURCE/reward; a source's name may hold slashes.
        source, _, metric = key.removeprefix("eval/").rpartition("/")
        inner_help = _EXACT.get(f"eval/{metric}") or _match(f"eval/{metric}")
        if source and inner_help is not None:
            return replace(inner_help, title=f"{inner_help.title} ({source})")
    return MetricHelp(key, "A metric of this run's own methods.")


def known_keys() -> dict[str, MetricHelp]:
    """Every documented key and pattern, for the catalogue and the tests."""
    return {**_EXACT, **_PATTERNS}


def lower_is_better(key: str) -> bool:
    """Whether a checkpoint is better when this metric is lower."""
    return key.endswith("loss") or help_of(key).better == "lower"


def _match(key: str) -> MetricHelp | None:
    for pattern, found in _PATTERNS.items():
        if fnmatchcase(key, pattern):
            before, _, after = pattern.partition("*")
            part = key[len(before) : len(key) - len(after)]
            return replace(
                found,
                title=found.title.format(part),
                definition=found.definition.replace("{0}", part),
            )
    return None
