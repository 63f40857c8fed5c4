"""harness-task: what an lm-evaluation-harness task says of one document, by its own filters and metric."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.registry import CHOICES, COLUMN, Answer, Reward, Unscorable, document_score


class HarnessTask(Reward):
    """The task's metric of each document; rows come from the source `harness`.

    A text is cut at the task's `until`. Of several choices the model's log-likelihoods are compared; the one
    text of a `loglikelihood` task must be what the model finds likeliest, token by token; what it wrote then
    does not count. Equal to the harness where `max_new_tokens` is the task's `max_gen_toks`.
    """

    type: Literal["harness-task"] = "harness-task"
    exact: ClassVar[bool] = True

    metric: str = Field("", max_length=64, json_schema_extra={"basic": True})
    """A name of the task's metric_list; empty takes the first."""
    filter: str = Field("", max_length=64)
    """A name of the task's filter_list; empty takes the first."""

    def score(self, answer: Answer) -> float:
        """The metric. Raises Unscorable with the reason where there is none."""
        told = answer.row.get(COLUMN)
        if not isinstance(told, dict):
            raise Unscorable("the row is no document of a harness task: use the source harness")
        if CHOICES in answer.row:
            if not answer.choices:
                raise Unscorable("the model cannot read the choices: one is empty, or too long")
            return self._of(answer, list(answer.choices))
        asked = told["fields"].get("generation_kwargs") or {}
        until = asked.get("until", [])
        stops = [until] if isinstance(until, str) else until
        text, stopped = answer.text, answer.finish_reason == "stop"
        for stop in filter(None, stops):
            stopped, text = stopped or stop in text, text.split(stop)[0]
        most = asked.get("max_gen_toks")
        if most and (answer.tokens > most or (answer.tokens < most and not stopped)):
            raise Unscorable(
                f"the task's answers have up to {most} tokens: set max_new_tokens to that"
            )
        return self._of(answer, [text])

    def _of(self, answer: Answer, results: list[object]) -> float:
        try:
            return document_score(dict(answer.row), results, self.metric, self.filter)
        except ValueError as error:
            raise Unscorable(str(error)) from error
