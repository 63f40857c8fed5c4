"""Evidence: scores and votes in, intervals, tests and careful words out. numpy and scipy only: no Django, no
clock, no database.

How a page uses it:

    arms = Arms(prompts, (Arm("step 300", scores), Arm("warm start", scores)))
    for found in findings(arms, baseline="warm start"):        # all pairs, p-values corrected over them
        found.verdict.word, found.verdict.sentence             # "better", "…"
        found.difference.interval, found.p_corrected, found.left_out
    confidence_sequence(arms.pair("step 300", "warm start"))   # may be looked at after every prompt
    pass_curve(arms["step 300"])                               # unbiased pass@k with intervals
    ratings(votes)                                             # Bradley-Terry with ties, position and style

Scores are arrays (prompts, samples), or (training seeds, prompts, samples); NaN is an item that failed, which
is never a 0. A difference is always candidate minus baseline. Results are frozen dataclasses of plain values,
so `dataclasses.asdict` makes them JSON; what is undefined is None. Whatever is random takes a `seed` and is
the same each time. Bad input raises ValueError with a sentence that names the argument and what to change.
"""

from orchestrator.evidence.agreement import (
    Agreement,
    PositionBias,
    agreement,
    cohen_kappa,
    fleiss_kappa,
    judge_weights,
    position_bias,
)
from orchestrator.evidence.arms import Arm, Arms, LeftOut, Pair
from orchestrator.evidence.corrections import correct
from orchestrator.evidence.differences import Difference, difference
from orchestrator.evidence.duels import (
    Duel,
    DuelFinding,
    Share,
    duel_findings,
    order_effect,
    self_consistency,
)
from orchestrator.evidence.effects import Effect, effect
from orchestrator.evidence.findings import Finding, finding, findings, pair_findings
from orchestrator.evidence.intervals import Interval
from orchestrator.evidence.length_control import LengthControlled, length_controlled
from orchestrator.evidence.outside import Outside, outside_read
from orchestrator.evidence.passes import (
    PassCurve,
    PassPoint,
    pass_at_k,
    pass_curve,
    pass_difference,
)
from orchestrator.evidence.power import Power, minimal_difference, power, prompts_needed
from orchestrator.evidence.ratings import Rating, Ratings, ratings
from orchestrator.evidence.sequences import Look, Sequence, confidence_sequence
from orchestrator.evidence.sign_flips import SignFlip, sign_flip
from orchestrator.evidence.tables import McNemar, Table, mcnemar, table
from orchestrator.evidence.verdicts import Evidence, Verdict, verdict
from orchestrator.evidence.votes import Style, Vote, style

__all__ = [
    "Agreement",
    "Arm",
    "Arms",
    "Difference",
    "Duel",
    "DuelFinding",
    "Effect",
    "Evidence",
    "Finding",
    "Interval",
    "LeftOut",
    "LengthControlled",
    "Look",
    "McNemar",
    "Outside",
    "Pair",
    "PassCurve",
    "PassPoint",
    "PositionBias",
    "Power",
    "Rating",
    "Ratings",
    "Sequence",
    "Share",
    "SignFlip",
    "Style",
    "Table",
    "Verdict",
    "Vote",
    "agreement",
    "cohen_kappa",
    "confidence_sequence",
    "correct",
    "difference",
    "duel_findings",
    "effect",
    "finding",
    "findings",
    "fleiss_kappa",
    "judge_weights",
    "length_controlled",
    "mcnemar",
    "minimal_difference",
    "order_effect",
    "outside_read",
    "pair_findings",
    "pass_at_k",
    "pass_curve",
    "pass_difference",
    "position_bias",
    "power",
    "prompts_needed",
    "ratings",
    "self_consistency",
    "sign_flip",
    "style",
    "table",
    "verdict",
]
