"""LoRA: train a low-rank update beside frozen weights (arXiv 2106.09685)."""

from typing import Any, Literal

from pydantic import Field

from trainer.registry import Adapter


class LoRA(Adapter):
    """Freeze the model and train two thin matrices beside each layer: W x + (alpha / r) B A x.

    There is no dropout: sampler and trainer must see the same policy. The checkpoint holds the adapter
    alone, in peft's format.
    """

    type: Literal["lora"] = "lora"

    r: int = Field(16, ge=1, le=1024, json_schema_extra={"basic": True})
    """Rank of the update. Healthy: 8 to 64 for supervised training; 1 to 32 is enough for RL, whose signal is
    a few bits per answer.
    Source: arXiv 2106.09685, section 4.1."""
    alpha: int = Field(32, ge=1, json_schema_extra={"basic": True})
    """The update is scaled by alpha / r. Healthy: r to 2 r.
    Source: arXiv 2106.09685, section 4.1."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an update: `all-linear` (every linear layer but the output layer), or the ends of
    their names. Healthy: all-linear; attention alone learns less.
    Source: arXiv 2305.14314, section 4."""
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """How A starts; B starts at 0, so that the first step begins at the start model.
    Source: arXiv 2106.09685, section 4.1 (gaussian); its authors' code (kaiming)."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead, which keeps large ranks stable. Healthy: on above r = 64.
    Source: arXiv 2312.03732, equation 4."""
    use_dora: bool = False
    """Train each column's length apart from its direction; about half as fast again.
    Source: arXiv 2402.09353, equation 5."""

    def peft_config(self) -> Any:
        """peft's LoraConfig."""
        from peft import LoraConfig

        targets = self.target_modules
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules=targets if isinstance(targets, str) else list(targets),
            init_lora_weights=True if self.init == "kaiming" else "gaussian",
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
        )
