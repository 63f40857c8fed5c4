"""Where the models of a run come from: the start model, its warm-up, the adapter on it, the reference.

An adapter's base is found again in every checkpoint: a hub id or a folder of the user's by its name, one
that was made on the spot (the starter, a warm-up, another run's checkpoint) as a copy in RUN/base, to
which each checkpoint's own `base/` is linked.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.engine.adapted import NAME, adapter_attach, base_of, is_adapted, is_adapter, merged
from trainer.engine.checkpoint import MANIFEST, link, manifest_of
from trainer.engine.dataset import characters_of
from trainer.engine.failure import Failure
from trainer.engine.fingerprint import weights_digest
from trainer.engine.load import dtype_stored, folder_load, policy_make, starter_build
from trainer.engine.reference import Reference
from trainer.engine.scorer import is_scorer, outputs_check, scorer_make
from trainer.rundir import RunDir
from trainer.spec import EXTERNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from trainer.engine.dataset import Part
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.methods import Adapter
    from trainer.spec import RunSpec

STARTER = "starter"
COMPARED = {"r": "r", "lora_alpha": "alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
"""peft's name -> the knob's: what a new adapter and the one of the start model must agree in."""


class Models:
    """The models of one attempt, made when they are asked for."""

    def __init__(
        self,
        session: Session,
        spec: RunSpec,
        device: torch.device,
        *,
        warm_spec: RunSpec | None,
        parts: Sequence[Part],
        outputs: Sequence[str] = (),
        warm_outputs: Sequence[str] = (),
    ) -> None:
        """`outputs` name the scores that a reward model gives; none where a language model is trained."""
        self.session, self.spec, self.device = session, spec, device
        self.outputs, self.warm_outputs = outputs, warm_outputs
        self.warm_spec, self.parts = warm_spec, parts
        self.start_digest = ""
        """Of the start model's weights, once it was made; kept in every checkpoint."""

    @property
    def warm_run(self) -> RunDir:
        """Where the warm-up keeps its checkpoints."""
        return RunDir(self.session.run.path / "warm-up")

    @property
    def warm_done(self) -> Path:
        """Exists once the warm-up is complete; names its last step."""
        return self.warm_run.path / "finished.json"

    def warmed(self) -> dict[str, Any]:
        """Last step and seconds of the warm-up."""
        done: dict[str, Any] = json.loads(self.warm_done.read_text())
        return done

    # --- what is trained -------------------------------------------------------------------------

    def policy(self, resumed: Path | None = None) -> Policy:
        """The model to train: from a checkpoint of this run, or as the run starts."""
        if resumed is not None:
            return self._ended(self._resumed(resumed), self.outputs)
        policy = self._start(self.spec.adapter)
        self.start_digest = weights_digest(policy.model)
        return policy

    def warm_policy(self, resumed: Path | None) -> Policy:
        """The model that the warm-up trains."""
        assert self.warm_spec is not None
        if resumed is not None:
            return self._ended(self._resumed(resumed), self.warm_outputs)
        policy = self._adapted(self._base(), self.warm_spec.adapter)
        return self._ended(policy, self.warm_outputs)

    def _resumed(self, folder: Path) -> Policy:
        policy = self._make(*folder_load(str(folder), self.spec.model))
        weights = manifest_of(folder).get("weights") or {}
        policy.stored_dtype = weights.get("stored_dtype", policy.stored_dtype)
        if is_adapted(policy.model):
            base = self.session.run.path / "base"
            policy.base_folder = base if base.is_dir() else None
            policy.base_name = base_of(folder)
        return policy

    def _start(self, adapter: Adapter) -> Policy:
        """The start model, warmed up where the spec says so, with the adapter that is trained."""
        if self.warm_spec is None:
            return self._ended(self._adapted(self._base(), adapter), self.outputs)
        folder = self.warm_run.checkpoint(self.warmed()["step"])
        warm = self._make(*folder_load(str(folder), self.spec.model))
        return self._ended(self._adapted(warm, adapter), self.outputs)

    def _ended(self, policy: Policy, outputs: Sequence[str]) -> Policy:
        """See that the model ends in what the objective needs: these scores, or a vocabulary."""
        if not outputs:
            if is_scorer(policy.model):
                raise ValueError(
                    f"model.name: {self.spec.model.name} is a reward model, it ends in scores and cannot "
                    "write; name a language model"
                )
        elif is_scorer(policy.model):
            outputs_check(policy.model, outputs)
        else:
            scorer_make(policy, outputs, self.spec.seed)
        return policy

    def _adapted(self, policy: Policy, adapter: Adapter) -> Policy:
        """Put the adapter in, or go on with the one that the start model has."""
        config, model = adapter.peft_config(), policy.model
        if config is None:
            if is_adapted(model):
                policy.model = merged(model)
            return policy
        if is_adapted(model):
            _agree(config, model.peft_config[NAME])
            return policy
        adapter_attach(model, config, self.spec.seed)
        model.to(self.device)
        return policy

    def _base(self) -> Policy:
        model, spec = self.spec.model, self.spec
        name = self.session.model_path or model.name
        if name != STARTER:
            if model.options:
                raise ValueError(f"model.options: they shape the starter; {model.name} has a shape")
            policy = self._make(*folder_load(name, model))
            policy.stored_dtype = dtype_stored(name, model)
            return policy
        specs = [spec] if self.warm_spec is None else [spec, self.warm_spec]
        texts = [
            str(row[column])
            for part in self.parts
            for row in part.rows
            for column in ("prompt", "completion", "chosen", "answer")
            if isinstance(row.get(column), str)
        ]
        built = starter_build(model, characters_of(specs, self.parts), texts, spec.seed)
        return self._make(*built)

    def _make(self, model: Any, tokenizer: Any) -> Policy:
        return policy_make(model, tokenizer, self.device, self.spec.model.dtype)

    # --- what an adapter stands on ---------------------------------------------------------------

    def base_keep(self, policy: Policy) -> None:
        """See to it that the base of the policy's adapter is found again: once per run, before training."""
        if not is_adapted(policy.model):
            return
        source = self._base_source()
        if source is not None and not isinstance(source, Path):
            policy.base_name = source
            return
        folder = self.session.run.path / "base"
        policy.base_folder = folder
        if folder.is_dir():
            return
        # A killed attempt may have left a part of it, as large as a model.
        for left in folder.parent.glob(".base.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = folder.with_name(f".base.{os.getpid()}.tmp")
        if source is None:
            plain = self._base()
            plain.model.save_pretrained(temporary)
            plain.tokenizer.save_pretrained(temporary)
        else:
            _model_copy(source, temporary)
        os.replace(temporary, folder)

    def _base_source(self) -> str | Path | None:
        """A name that lasts, a folder to copy from, or None for the starter."""
        if self.warm_spec is not None:
            folder = self.warm_run.checkpoint(self.warmed()["step"])
            return Path(base_of(folder)) if is_adapter(folder) else folder
        name = self.session.model_path or self.spec.model.name
        if name == STARTER:
            return None
        folder = Path(name).expanduser()
        if not folder.is_dir():
            return name
        if is_adapter(folder):
            base = Path(base_of(folder))
            return base if base.parent == folder else str(base)
        # An external model stays where people keep it; another run's checkpoint may go.
        lasts = not self.session.model_path or self.spec.model.name.startswith(EXTERNAL_PREFIX)
        return str(folder.resolve()) if lasts else folder

    # --- what it is compared with ----------------------------------------------------------------

    def reference(self, policy: Policy, start_digest: str, *, warm: bool) -> Reference:
        """The reference of `policy`: a model of its own, or the policy with its adapter switched off.

        That of the warm-up is what the warm-up starts from.
        """
        if warm:
            return Reference(self._base)
        name = self.session.reference_path or self.spec.reference.name
        moves = self.spec.reference.sync_every > 0
        if name:
            if moves and is_adapted(policy.model):
                raise ValueError(
                    "reference.sync_every: an adapter can only be pulled towards one like it; "
                    "leave reference.name empty, or train without an adapter"
                )
            return Reference(lambda: self._named(name), name=name)
        if is_adapted(policy.model) and not moves and not self._starts_adapted():
            return Reference.without_adapter(policy)
        return Reference(lambda: self._start_again(start_digest))

    def _starts_adapted(self) -> bool:
        """Whether the run goes on with an adapter that its start model has."""
        if self.warm_spec is not None:
            return is_adapter(self.warm_run.checkpoint(self.warmed()["step"]))
        return is_adapter(Path(self.session.model_path or self.spec.model.name).expanduser())

    def _named(self, name: str) -> Policy:
        return self._base() if name == STARTER else self._make(*folder_load(name, self.spec.model))

    def _start_again(self, digest: str) -> Policy:
        policy = self._start(self.spec.adapter)
        if digest and weights_digest(policy.model) != digest:
            raise Failure(
                "bad-input",
                f"model.name: the start model {self.spec.model.name} has changed since the run began, and "
                "the loss compares with it; put the old one back, or start a new run",
            )
        return policy


def _agree(wanted: Any, found: Any) -> None:
    """Raises ValueError when the start model's adapter is not one that the knobs could have made."""
    if wanted.peft_type != found.peft_type:
        raise ValueError(
            f"adapter.type: the start model holds a {found.peft_type.value} adapter; merge it first "
            "(python -m trainer merge), or train without an adapter"
        )
    for name, knob in COMPARED.items():
        if getattr(wanted, name) != getattr(found, name):
            raise ValueError(
                f"adapter.{knob}: the start model holds an adapter with {knob} = {getattr(found, name)}; "
                f"set the same here, or merge it first (python -m trainer merge)"
            )


def _model_copy(source: Path, target: Path) -> None:
    """The model of a folder, without what only its run needs; linked where the disk can."""
    shutil.copytree(
        source,
        target,
        copy_function=link,
        ignore=shutil.ignore_patterns("trainer", MANIFEST, "base"),
    )
