"""Where an interrupted training goes on: its last whole epoch, on disk. Never trains."""

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nbutils.files import aside
from nbutils.scoring.backbone import Base
from nbutils.scoring.student import FINGERPRINT, Kind, Settings
from nbutils.scoring.targets import Example


@dataclass
class Progress:
    """Where an interrupted training goes on: after the last whole epoch of each member."""

    file: Path
    identity: str  # of data, base, settings and seed: another training is not resumed

    def write(self, member: int, state: dict[str, Any]) -> None:
        members = self._members() | {member: state}
        with aside(self.file) as part:
            torch.save({"identity": self.identity, "members": members}, part)

    def read(self, member: int) -> dict[str, Any]:
        """The member's state, or {} where there is none for this very training.

        Raises ValueError where the file is damaged; code in it is never run.
        """
        return self._members().get(member, {})

    def _members(self) -> dict[int, dict[str, Any]]:
        if not self.file.exists():
            return {}
        try:
            content = torch.load(self.file, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).partition("\n")[0]
            remedy = "delete it to train from the start"
            raise ValueError(
                f"{self.file}: not a checkpoint of ours ({reason}); {remedy}"
            ) from None
        return content["members"] if content["identity"] == self.identity else {}


def data_hash(rows: Sequence[Example]) -> str:
    """SHA-256 of the examples: texts, targets and grades."""
    content = json.dumps([asdict(row) for row in rows], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def identity(base: Base, rows: Sequence[Example], settings: Settings, kind: Kind, seed: int) -> str:
    """What makes two trainings the same."""
    parts = (base.sha256, FINGERPRINT, data_hash(rows), asdict(settings), kind, seed)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
