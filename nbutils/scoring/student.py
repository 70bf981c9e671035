"""The scoring student: it scores answers, and two scores make a verdict. Never generates text.

A head reads pooled hidden states of a small LM (backbone.py): score = head . (features - mean) /
scale. A `probe` reads the frozen LM; a `lora` student reads it through adapters. A student is a
small committee: each member was trained without one fold of sections, the score is their mean.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import exp
from pathlib import Path
from typing import Any, Literal

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nbutils.files import aside
from nbutils.records import Label, Probabilities
from nbutils.scoring.backbone import REPLY, TEMPLATE, Base, Group, Reading, pooled

Kind = Literal["probe", "lora"]
CARD, WEIGHTS = "student.json", "student.safetensors"
FINGERPRINT = "student-v1:" + hashlib.sha256((TEMPLATE + REPLY).encode()).hexdigest()[:12]


class StudentError(ValueError):
    """A student's folder that cannot be used; the message names file, field and remedy."""


@dataclass(frozen=True)
class Settings:
    """How a student is built and trained; chosen by benchmarks/choose_student.py."""

    layers: tuple[int, ...] = (10, 15, 20)  # whose incoming hidden states the head reads
    first: int = 8  # first adapted layer
    last: int = 19  # last adapted layer; the layers above it serve the surprisal alone
    rank: int = 16  # of the adapters
    rate: float = 5e-4  # learning rate of the adapters, at its peak
    epochs: int = 2
    batch: int = 4  # questions a step
    alpha: float = 0.5  # weight of the cross-entropy; the KL term has 1 - alpha
    grade_weight: float = 0.3  # of the order of two recorded grades, beside a judged pair's 1
    decay: float = 4.0  # squared-norm penalty of the head, a judged pair
    folds: int = 3  # members of the committee


@dataclass(frozen=True)
class Calibration:
    """What turns raw scores into probabilities; fitted on scores of questions not trained on."""

    slope: float  # calibrated score = slope * raw score
    tie: float  # Davidson's tie term
    grade_slope: float  # grade = 1 / (1 + exp(-(intercept + slope * calibrated score)))
    grade_intercept: float


def davidson(score_a: Tensor, score_b: Tensor, tie: Tensor | float) -> Tensor:
    """Logits of (a, b, tie), last dimension: (s_a, s_b, (s_a + s_b) / 2 + tie).

    Source: Davidson 1970, On extending the Bradley-Terry model to accommodate ties in paired
    comparison experiments, with s = log of worth and tie = log of nu.
    """
    return torch.stack([score_a, score_b, (score_a + score_b) / 2 + tie], dim=-1)


def verdict(score_a: float, score_b: float, tie: float) -> tuple[Label, Probabilities]:
    """The likeliest verdict and the probabilities of (a, b, tie). Equal scores are a tie."""
    first, second = torch.tensor([score_a, score_b], dtype=torch.float64)
    logits = davidson(first, second, tie)
    a, b, equal = torch.softmax(logits, -1).tolist()
    if score_a == score_b or equal >= max(a, b):
        return "tie", (a, b, equal)
    return ("a" if score_a > score_b else "b"), (a, b, equal)


class Student:
    """A committee of heads, with or without adapters, over one base."""

    def __init__(
        self, base: Base, settings: Settings, kind: Kind, mean: Tensor, scale: Tensor
    ) -> None:
        """An untrained student: all heads zero. `mean` and `scale` are (features,) tensors."""
        self.base, self.settings, self.kind = base, settings, kind
        self.mean, self.scale = mean, scale
        self.heads = torch.zeros(settings.folds, len(mean))
        self.calibration = Calibration(1.0, -1.0, 1.0, 0.0)
        self.card: dict[str, Any] = {}
        self.upper: PeftModel | None = None

    def add_adapter(self, member: int) -> PeftModel:
        """Gives one member its adapter (which at first changes nothing) and makes it active."""
        config = LoraConfig(
            r=self.settings.rank,
            lora_alpha=2 * self.settings.rank,
            target_modules=r".*layers\.\d+\..*\.(?:q|k|v|o|gate|up|down)_proj",
        )
        # peft asks transformers for a name that it is about to drop
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        if self.upper is None:
            part = self.base.upper(self.settings.first, self.settings.last)
            self.upper = get_peft_model(part, config, adapter_name=f"member{member}")
        else:
            self.upper.add_adapter(f"member{member}", config)
        self.upper.set_adapter(f"member{member}")
        return self.upper

    def adapter(self, member: int) -> dict[str, Tensor]:
        """The weights of one member's adapter, by name."""
        state: dict[str, Tensor] = get_peft_model_state_dict(
            self.upper, adapter_name=f"member{member}", save_embedding_layers=False
        )
        return state

    def read(self, group: Group) -> Reading:
        """The frozen base's pass over a group, which all members share."""
        return self.base.read(group, self.settings.layers, self.settings.first)

    def features(self, reading: Reading, member: int) -> Tensor:
        """(K, features) of one member, centred and scaled."""
        found = reading.features
        if self.upper is not None:
            self.upper.set_adapter(f"member{member}")
            with torch.autocast("cpu", self.base.dtype, enabled=self.base.dtype != torch.float32):
                states = self.upper(
                    inputs_embeds=reading.hidden,
                    position_ids=reading.tree.positions,
                    attention_mask=reading.tree.mask,
                    use_cache=False,
                    output_hidden_states=True,
                ).hidden_states
            chosen = [states[layer - self.settings.first][0] for layer in self.settings.layers]
            found = pooled(torch.stack(chosen), reading.pooling)
        return (found - self.mean) / self.scale

    @torch.no_grad()
    def scores(self, group: Group) -> list[float]:
        """The calibrated score of each answer: the higher the better, 0 the training answers' mean.

        The order of the answers does not matter, nor does their company, but for rounding; answers
        of the same text have the same score exactly.
        """
        unique = tuple(sorted(set(group.answers)))
        reading = self.read(Group(group.question, group.source, unique))
        found = dict(zip(unique, self.score_reading(reading, range(len(self.heads))), strict=True))
        return [found[answer] for answer in group.answers]

    @torch.no_grad()
    def score_reading(self, reading: Reading, members: Iterable[int]) -> list[float]:
        """The calibrated score of each answer of a reading: the mean over these members."""
        found = [self.features(reading, member) @ self.heads[member] for member in members]
        scores: list[float] = (torch.stack(found).mean(0) * self.calibration.slope).tolist()
        return scores

    def verdict(self, score_a: float, score_b: float) -> tuple[Label, Probabilities]:
        """The verdict on two answers from their scores, and the probabilities of (a, b, tie)."""
        return verdict(score_a, score_b, self.calibration.tie)

    def grade(self, score: float) -> float:
        """A grade from 0 to 1, on the teacher's scale, from one answer's score."""
        linear = self.calibration.grade_intercept + self.calibration.grade_slope * score
        return 1 / (1 + exp(-max(min(linear, 500), -500)))

    def save(self, folder: Path) -> None:
        """Writes student.safetensors, then student.json with its hash; each aside, then renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"heads": self.heads, "mean": self.mean, "scale": self.scale}
        if self.upper is not None:
            for member in range(self.settings.folds):
                name = f"member{member}"
                found = self.adapter(member)
                tensors |= {f"{name}.{key}": value for key, value in found.items()}
        with aside(folder / WEIGHTS) as part:
            save_file({key: value.detach().contiguous() for key, value in tensors.items()}, part)
        self.card |= {
            "kind": self.kind,
            "base": self.base.name,
            "base_sha256": self.base.sha256,
            "prompt": FINGERPRINT,
            "settings": asdict(self.settings),
            "calibration": asdict(self.calibration),
            "weights_sha256": _sha256(folder / WEIGHTS),
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        }
        with aside(folder / CARD) as part:
            part.write_text(json.dumps(self.card, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, base: Base) -> Student:
    """The student in a folder, over the base it was trained on.

    Raises StudentError where a file is missing or damaged, or the base or the prompt is another.
    Weights are read from safetensors alone.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        settings = Settings(**card["settings"] | {"layers": tuple(card["settings"]["layers"])})
        calibration = Calibration(**card["calibration"])
        kind, recorded = card["kind"], {key: card[key] for key in ("base_sha256", "prompt")}
        expected = card["weights_sha256"]
    except FileNotFoundError:
        raise StudentError(f"{folder}: no {CARD}; run notebook 05_distil first") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StudentError(f"{folder / CARD}: {error!r}; train the student again") from None
    if kind not in ("probe", "lora"):
        raise StudentError(f"{folder / CARD}: field 'kind': {kind!r} is not probe or lora")
    for field, actual in (("base_sha256", base.sha256), ("prompt", FINGERPRINT)):
        if recorded[field] != actual:
            raise StudentError(
                f"{folder / CARD}: field '{field}': {recorded[field]} is not {actual} "
                f"({base.name}); load the base it was trained on, or train it again"
            )
    weights = folder / WEIGHTS
    if not weights.is_file() or _sha256(weights) != expected:
        state = "is damaged" if weights.exists() else "is missing"
        raise StudentError(f"{weights} {state} (SHA-256 {expected} expected): train it again")
    try:
        with safe_open(weights, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StudentError(f"{weights}: not safetensors ({error}); train it again") from None
    student = Student(base, settings, kind, tensors["mean"], tensors["scale"])
    student.heads, student.calibration, student.card = tensors["heads"], calibration, card
    for member in range(settings.folds if kind == "lora" else 0):
        name = f"member{member}."
        own = {key.removeprefix(name): v for key, v in tensors.items() if key.startswith(name)}
        upper = student.add_adapter(member)
        unfit = set(own) ^ set(student.adapter(member))
        if unfit:
            raise StudentError(f"{weights}: adapter '{name[:-1]}' does not fit; train it again")
        set_peft_model_state_dict(upper, own, adapter_name=name[:-1])
    if student.upper is not None:
        student.upper.eval()
    return student


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
