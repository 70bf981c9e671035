"""The fit of a student: a head, then adapters under it, for each fold. Never reads a test row.

A member of the committee is fitted without the sections of one fold: first its head on the frozen
base (a convex problem), then, for `lora`, adapters and head together from there. The order, head
first, keeps the adapters from distorting what the base knows while the head is still random (Kumar
et al. 2022, Fine-tuning can distort pretrained features).
"""

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from torch import Tensor
from tqdm import tqdm

from nbutils.scoring.backbone import Base, Reading
from nbutils.scoring.calibration import calibrate
from nbutils.scoring.checkpoint import Progress, data_hash, identity
from nbutils.scoring.student import Kind, Settings, Student, verdict
from nbutils.scoring.targets import LABELS, Example, folds, pair_loss

WARM_UP = 8  # steps until the learning rate reaches its peak
HEAD_RATE = 0.2  # of the head, as a share of the adapters'
CLIP = 1.0  # largest norm of the adapters' gradient
CHECKPOINT = "training.pt"  # in the student's folder, while a training is under way


def fit_head(
    features: Sequence[Tensor], rows: Sequence[Example], settings: Settings
) -> tuple[Tensor, Tensor]:
    """The head (features,) and tie term that minimise the loss a pair plus decay * |head|^2.

    `features` holds one (K, features) tensor an example. Convex, solved by L-BFGS from zero.
    """
    stacked = torch.cat(list(features))
    sizes = [len(own) for own in features]
    head = torch.zeros(stacked.shape[1], requires_grad=True)
    tie = torch.tensor(-1.0, requires_grad=True)
    pairs = sum(len(row.pairs) for row in rows)
    solver = torch.optim.LBFGS(
        [head, tie], max_iter=60, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        scores = (stacked @ head).split(sizes)
        parts = [
            pair_loss(own, row, tie, settings).total for own, row in zip(scores, rows, strict=True)
        ]
        loss = torch.stack(parts).sum() / pairs + settings.decay * head.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return head.detach(), tie.detach()


def read_examples(base: Base, rows: Sequence[Example], settings: Settings) -> list[Reading]:
    """The frozen base's reading of each example: made once, used by every fit and epoch."""
    return [
        base.read(row.group, settings.layers, settings.first)
        for row in tqdm(rows, "reading", file=sys.stdout, mininterval=2)
    ]


def train(
    base: Base,
    rows: Sequence[Example],
    readings: Sequence[Reading],
    settings: Settings,
    kind: Kind,
    seed: int,
    folder: Path,
) -> tuple[Student, list[dict[str, float]]]:
    """Trains a student, saves it in `folder`, and gives it back with its history, a row a step.

    An interrupted training of the same data, base, settings and seed goes on from its last whole
    epoch. Raises ValueError where there are fewer sections than folds.
    """
    fold = folds(rows, settings.folds, seed)
    stacked = torch.cat([reading.features for reading in readings])
    student = Student(base, settings, kind, stacked.mean(0), stacked.std(0) + 1e-3)
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(folder / CHECKPOINT, identity(base, rows, settings, kind, seed))
    training = Training(student, rows, readings, seed, progress)
    held_out: dict[str, list[float]] = {}
    for member in range(settings.folds):
        inside = [n for n, own in enumerate(fold) if own != member]
        training.fit_member(member, inside)
        for n in (n for n, own in enumerate(fold) if own == member):
            with torch.no_grad():
                scores = student.features(readings[n], member) @ student.heads[member]
            held_out[rows[n].question_id] = scores.tolist()
    student.card = {"seed": seed, "data_sha256": data_hash(rows), "questions": len(rows)}
    finish(student, rows, held_out)
    student.save(folder)
    progress.file.unlink(missing_ok=True)
    return student, training.history


def finish(student: Student, rows: Sequence[Example], held_out: dict[str, list[float]]) -> None:
    """Calibrates the student on held-out scores and writes their figures into its card."""
    margins, graded = [], []
    for row in rows:
        scores = held_out[row.question_id]
        for pair in row.pairs:
            if pair.verdict is not None:
                margins.append((scores[pair.first], scores[pair.second], pair.verdict))
        graded += [(s, g) for s, g in zip(scores, row.grades, strict=True) if g is not None]
    student.calibration = calibrate(margins, graded)
    tie, slope = student.calibration.tie, student.calibration.slope
    told = [verdict(a * slope, b * slope, tie)[0] == LABELS[v] for a, b, v in margins]
    preferred = [_higher(a, b) if v == 0 else _higher(b, a) for a, b, v in margins if v < 2]
    ordered = [
        _higher(held_out[row.question_id][i], held_out[row.question_id][j])
        for row in rows
        for i, j in row.order()
    ]
    pairs = sum(len(row.pairs) for row in rows)
    student.card["cross_validation"] = {
        "pairs": pairs,
        "agreement": sum(told) / pairs,
        "preferred_pairs": len(preferred),
        "preference": sum(preferred) / max(len(preferred), 1),
        "graded_pairs": len(ordered),
        "grade_order": sum(ordered) / max(len(ordered), 1),
    }


def _higher(better: float, worse: float) -> float:
    """1 where the better answer has the higher score, 1/2 where the scores are equal."""
    return 0.5 if better == worse else float(better > worse)


class Training:
    """The state of one training: the student, its examples and its history."""

    def __init__(
        self,
        student: Student,
        rows: Sequence[Example],
        readings: Sequence[Reading],
        seed: int,
        progress: Progress,
    ) -> None:
        self.student, self.rows, self.readings = student, rows, readings
        self.seed, self.progress = seed, progress
        self.history: list[dict[str, float]] = []

    def fit_member(self, member: int, inside: Sequence[int]) -> None:
        """Fits one member on the examples at the places `inside`."""
        student, settings = self.student, self.student.settings
        frozen = [(self.readings[n].features - student.mean) / student.scale for n in inside]
        head, tie = fit_head(frozen, [self.rows[n] for n in inside], settings)
        student.heads[member] = head
        if student.kind == "lora":
            self._fit_adapter(member, inside, tie)

    def _fit_adapter(self, member: int, inside: Sequence[int], tie: Tensor) -> None:
        student, settings = self.student, self.student.settings
        with torch.random.fork_rng():
            torch.manual_seed(self.seed * 1000 + member)
            upper = student.add_adapter(member)
        weights = [weight for weight in upper.parameters() if weight.requires_grad]
        head = student.heads[member].clone().requires_grad_()
        tie = tie.clone().requires_grad_()
        solver = torch.optim.AdamW(
            [{"params": weights, "lr": 0.0}, {"params": [head, tie], "lr": 0.0}], weight_decay=0.0
        )
        state = self.progress.read(member)
        if state:
            set_peft_model_state_dict(upper, state["adapter"], adapter_name=f"member{member}")
            solver.load_state_dict(state["solver"])
            head.data.copy_(state["head"])
            tie.data.copy_(state["tie"])
            self.history = state["history"]
        steps = math.ceil(len(inside) / settings.batch)
        upper.train()
        for epoch in range(state.get("epochs", 0), settings.epochs):
            order = list(inside)
            random.Random(f"{self.seed} {member} {epoch}").shuffle(order)
            label = f"member {member + 1}/{settings.folds} epoch {epoch + 1}/{settings.epochs}"
            with tqdm(total=steps, desc=label, file=sys.stdout, mininterval=2) as bar:
                for step in range(steps):
                    batch = order[step * settings.batch : (step + 1) * settings.batch]
                    rate = settings.rate * schedule(epoch * steps + step, settings.epochs * steps)
                    solver.param_groups[0]["lr"] = rate
                    solver.param_groups[1]["lr"] = rate * HEAD_RATE
                    row = self._step(member, batch, head, tie, solver, weights)
                    self.history.append(
                        {"member": member + 1, "epoch": epoch + 1, "step": step} | row
                    )
                    bar.set_postfix(loss=f"{row['loss']:.3f}")
                    bar.update()
            own: dict[str, Any] = {
                "adapter": student.adapter(member),
                "solver": solver.state_dict(),
            }
            own |= {
                "history": self.history,
                "head": head.detach(),
                "tie": tie.detach(),
                "epochs": epoch + 1,
            }
            self.progress.write(member, own)
        upper.eval()
        student.heads[member] = head.detach()

    def _step(
        self,
        member: int,
        batch: Sequence[int],
        head: Tensor,
        tie: Tensor,
        solver: torch.optim.Optimizer,
        weights: Sequence[Tensor],
    ) -> dict[str, float]:
        """One step on a batch of questions; the history's figures are means a pair."""
        pairs = sum(len(self.rows[n].pairs) for n in batch)
        sums = {"loss": 0.0, "ce": 0.0, "kl": 0.0, "grades": 0.0}
        for n in batch:  # one question at a time: no padding to the longest, little memory
            scores = self.student.features(self.readings[n], member) @ head
            loss = pair_loss(scores, self.rows[n], tie, self.student.settings)
            (loss.total / pairs).backward()
            for name, term in zip(sums, (loss.total, loss.ce, loss.kl, loss.grades), strict=True):
                sums[name] += term.item() / pairs
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        solver.step()
        solver.zero_grad()
        return sums


def schedule(step: int, steps: int) -> float:
    """The learning rate's share of its peak: a linear warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
