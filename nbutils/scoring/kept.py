"""Features that the frozen base read once, in a file. Never gives them out for another base.

They go by question and text, so that a changed answer is read again and not taken for the old one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nbutils.files import aside
from nbutils.jsonl import short
from nbutils.scoring.backbone import Base, Reading
from nbutils.scoring.student import FINGERPRINT, StudentError
from nbutils.scoring.targets import Example


def text_key(question_id: str, text: str) -> str:
    """What an answer's features go by."""
    return hashlib.sha256(json.dumps([question_id, text]).encode()).hexdigest()[:32]


def keep_features(
    path: Path,
    rows: Iterable[Example],
    readings: Iterable[Reading],
    base: Base,
    layers: Sequence[int],
) -> None:
    """Writes the (d,) float32 features of every answer of the examples, whole or not at all."""
    found = {
        text_key(row.question_id, text): features.contiguous()
        for row, reading in zip(rows, readings, strict=True)
        for text, features in zip(row.group.answers, reading.features, strict=True)
    }
    with aside(path) as part:
        save_file(found, part, metadata=_about(base, layers))


def load_features(path: Path, base: Base, layers: Sequence[int]) -> Mapping[str, Tensor]:
    """The features by text_key. Raises StudentError where the file is another base's or damaged."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StudentError(f"{short(path)}: {error}; run notebook 05_distil again") from None
    if about != _about(base, layers):
        what = f"{short(path)}: read by {about}, not by {_about(base, layers)}"
        raise StudentError(f"{what}; run notebook 05_distil again")
    return found


def _about(base: Base, layers: Sequence[int]) -> dict[str, str]:
    return {"base": base.sha256, "prompt": FINGERPRINT, "layers": json.dumps(list(layers))}
