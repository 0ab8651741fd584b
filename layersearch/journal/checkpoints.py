"""Checkpoints: the states of unfinished trials, one file each, so that a long training can be resumed.

    states = Checkpoints(folder, "checkpoint_latent3_5f0c…", epochs=20)
    states.save(trial, state)
    states.load(trial)                 # None if there is no checkpoint, or it is damaged

Each file is an uncompressed .npz archive, whose parts have checksums.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from layersearch.files import replacing
from layersearch.space.trials import Trial, TrialState

UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of trials of `epochs` epochs. Several threads may use them at once."""

    folder: Path
    prefix: str  # prefix of the file names, different for each search
    epochs: int

    def load(self, trial: Trial) -> TrialState | None:
        """Returns the state that was saved last; None if there is none or it is damaged."""
        try:
            with open(self._path(trial), "rb") as file, np.load(file, allow_pickle=False) as saved:
                if saved["of"].item() != self._name(trial):
                    return None
                parts = {part.name: saved[part.name] for part in fields(TrialState) if part.name in saved}
                return TrialState(**{name: part if part.ndim else part.item() for name, part in parts.items()})
        except UNREADABLE:
            return None

    def save(self, trial: Trial, state: TrialState) -> None:
        """Saves a state, replacing the previous one.

        Raises:
            OSError: The state could not be written; the previous one is kept.
        """
        parts = {part.name: getattr(state, part.name) for part in fields(TrialState)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(trial)) as temporary, open(temporary, "wb") as file:
            np.savez(file, of=self._name(trial), **{name: part for name, part in parts.items() if part is not None})

    def remove(self, trial: Trial) -> None:
        """Removes the checkpoint of a finished trial."""
        self._path(trial).unlink(missing_ok=True)

    def _name(self, trial: Trial) -> str:
        return f"{self.prefix} {trial} {self.epochs}"

    def _path(self, trial: Trial) -> Path:
        digest = hashlib.blake2b(self._name(trial).encode(), digest_size=8).hexdigest()
        return self.folder / f"{self.prefix}_{digest}.npz"
