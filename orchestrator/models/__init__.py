"""The database: one file per noun."""

from orchestrator.models.answer import Answer, Judgement, Outcome, Reading, Score
from orchestrator.models.ballot import Ballot, GoldMark
from orchestrator.models.checkpoint import Checkpoint
from orchestrator.models.comparison import Arm, ArmRun, Comparison, Item
from orchestrator.models.dataset import Dataset
from orchestrator.models.external import External, Source
from orchestrator.models.member import Member
from orchestrator.models.node import Node, NodeReading
from orchestrator.models.points import Block, Chunk, Series
from orchestrator.models.question import Played, Question
from orchestrator.models.registered import Stage
from orchestrator.models.registry_change import RegistryChange
from orchestrator.models.removal import Removal
from orchestrator.models.run import (
    ENDED,
    Attempt,
    Desired,
    IdempotencyKey,
    Process,
    Run,
    State,
)
from orchestrator.models.state import STATE_OF_CAUSE, shown_state
from orchestrator.models.stream_health import ShipReport, StreamHealth
from orchestrator.models.telemetry import Event, LogLine, Pulse, Sample, StepSpans, Stream
from orchestrator.models.user import ROLE_OF_SCOPE, ApiToken, LoginLink, Role, Scope, User
from orchestrator.models.vote import Vote

__all__ = [
    "ENDED",
    "ROLE_OF_SCOPE",
    "STATE_OF_CAUSE",
    "Answer",
    "ApiToken",
    "Arm",
    "ArmRun",
    "Attempt",
    "Ballot",
    "Block",
    "Checkpoint",
    "Chunk",
    "Comparison",
    "Dataset",
    "Desired",
    "Event",
    "External",
    "GoldMark",
    "IdempotencyKey",
    "Item",
    "Judgement",
    "LogLine",
    "LoginLink",
    "Member",
    "Node",
    "NodeReading",
    "Outcome",
    "Played",
    "Process",
    "Pulse",
    "Question",
    "Reading",
    "RegistryChange",
    "Removal",
    "Role",
    "Run",
    "Sample",
    "Scope",
    "Score",
    "Series",
    "ShipReport",
    "Source",
    "Stage",
    "State",
    "StepSpans",
    "Stream",
    "StreamHealth",
    "User",
    "Vote",
    "shown_state",
]
