"""What a phase trains on, opened and checked: prepared folder, bank, parameters, folder of its checkpoints."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ndpnet.config import Params, PhaseConfig
from ndpnet.data.prepared import PreparedData
from ndpnet.files import hash_of
from ndpnet.lineage import code_hash
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import DefectComposer
from ndpnet.training.checkpoint import HISTORY
from ndpnet.training.validation import SyntheticValidation


@dataclass(frozen=True)
class PhaseInputs:
    """What a phase trains on; number: 1 or 2."""

    number: int
    prepared: PreparedData
    bank: DefectBank
    params: Params
    work_dir: Path  # its checkpoint folder
    watch_dir: Path | None = None  # where it shows itself while it runs

    @property
    def phase(self) -> PhaseConfig:
        """The phase's own parameters."""
        return self.params.train.phase1 if self.number == 1 else self.params.train.phase2

    def composer(self, device: torch.device, *, stream: int) -> DefectComposer:
        """Artificial defects on the pictures to train on; stream: of random draws."""
        return DefectComposer(
            self.prepared.images("train"),
            self.bank,
            self.params.synthesis,
            defect_free_share=self.phase.defect_free_share,
            seed=self.params.seed,
            phase=stream,
            device=device,
        )

    def validation(self, device: torch.device) -> SyntheticValidation | None:
        """The synthetic validation set; None where no image is held out for it."""
        images = self.prepared.images("validation")
        return SyntheticValidation(images, self.bank, self.params, device=device) if len(images) else None


def open_inputs(
    number: int,
    prepared: Path,
    bank: Path,
    params: Params,
    work_dir: Path,
    *,
    identity: list[Any],
    watch_dir: Path | None = None,
) -> PhaseInputs:
    """Open a phase's inputs; its checkpoint folder is named by the hash of their identity with the code's.

    watch_dir: gets a link to the history that the phase writes, and pictures of the validation.
    ValueError names a parameter that an input was made with another value of.
    """
    prepared_data, defect_bank = PreparedData.load(prepared), DefectBank.load(bank)
    _check_made_with(prepared, prepared_data.settings, params, "prepare", "data")
    sizes = {"num_masks": len(defect_bank.masks), "num_sources": len(defect_bank.sources)}
    _check_made_with(bank, sizes | {"patch_size": defect_bank.patch_size}, params, "synthesize", "synthesis")
    name = f"phase{number}"
    key = hash_of([name, *identity, params.runtime.devices, code_hash()])
    folder = Path(work_dir) / f"{name}-{key[:16]}"
    if watch_dir is not None:
        link = watch_dir / HISTORY
        link.unlink(missing_ok=True)
        link.symlink_to((folder / HISTORY).resolve())
    return PhaseInputs(number, prepared_data, defect_bank, params, folder, watch_dir)


def _check_made_with(folder: Path, made_with: dict[str, Any], params: Params, verb: str, section: str) -> None:
    """Refuse an input made with other parameters than the model would claim."""
    current = getattr(params, section).model_dump()
    for name in sorted(made_with.keys() & current.keys()):
        if made_with[name] != current[name]:
            raise ValueError(
                f"{folder} was made with {section}.{name} {made_with[name]!r}, not {current[name]!r} "
                f"(run `ndpnet {verb}` again, or pass -P '{section}.{name}={json.dumps(made_with[name])}')"
            )
