"""The generative student: a LoRA adapter that makes a causal LM judge with reasons. Never judges.

Trained, its folder is a peft adapter (adapter_model.safetensors, adapter_config.json) with a card,
generative.json; it judges as LocalChat does with that folder as its role's adapter. The loss is in
lessons.py, what to change for a larger base in docs/generative.md.
"""

import hashlib
import json
import math
import random
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import (
    LoraConfig,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import save_file
from tqdm import tqdm

from nbutils.causal_lm import (
    ADAPTER_CARD,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    best_device,
    file_sha256,
    load_lm,
    weights_sha256,
)
from nbutils.files import aside
from nbutils.prompts import PAIRWISE
from nbutils.roles import GenerativeRole
from nbutils.scoring.checkpoint import Progress
from nbutils.scoring.training import CHECKPOINT, CLIP, schedule
from nbutils.writing.chat_format import ChatFormat
from nbutils.writing.lessons import Encoded, Lesson, encode, lesson_loss

NAMED = 5  # lessons that an error names


class GenerativeError(ValueError):
    """Lessons that cannot be taught as asked; the message names them and the remedy."""


def train_generative(
    role: GenerativeRole, lessons: Sequence[Lesson], seed: int, folder: Path
) -> dict[str, Any]:
    """Trains an adapter for role.model, saves it in `folder`, and gives its card, history included.

    `role.batch` is in lessons a step; a pass holds one lesson, and gradients add up. An interrupted
    training of the same lessons, base, settings and seed goes on from its last whole epoch; a
    finished one is not done again. Raises GenerativeError where there is no lesson, one is longer
    than role.max_tokens, or alpha below 1 asks for a KL term and no lesson has one.
    """
    device, dtype = best_device()
    lm, tokenizer = load_lm(role.model, dtype)
    chat = ChatFormat(tokenizer, lm.config.eos_token_id, role.model)
    rows = _encoded(lessons, chat, role)
    card = _identity(role, lessons, rows, seed)
    if finished := _finished(folder, card):
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER_CARD).unlink(missing_ok=True)  # of another training
    name = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
    progress = Progress(folder / CHECKPOINT, name)
    student = _with_adapter(lm.to(device), role, seed)
    card["history"] = _fit(student, rows, role, seed, progress)
    _save(student, folder, card)
    progress.file.unlink(missing_ok=True)
    return card


def _encoded(lessons: Sequence[Lesson], chat: ChatFormat, role: GenerativeRole) -> list[Encoded]:
    rows = [encode(lesson, chat) for lesson in lessons]
    sizes = {row.pair_id: row.prompt + row.reply for row in rows}
    long = [f"{name} ({size})" for name, size in sizes.items() if size > role.max_tokens]
    if long:
        named = ", ".join(long[:NAMED]) + (" and others" if len(long) > NAMED else "")
        why = f"{len(long)} of {len(rows)} are longer than max_tokens = {role.max_tokens}: {named}"
        raise GenerativeError(f"{why}; raise it to {max(sizes.values())}, or leave these pairs out")
    if not rows:
        raise GenerativeError("there is no lesson: judge and resolve train pairs first")
    if role.alpha < 1 and not any(row.letters for row in rows):
        why = f"alpha is {role.alpha}, and no lesson has a KL term"
        raise GenerativeError(f"{why}; give soft targets, or set alpha to 1")
    return rows


def _identity(
    role: GenerativeRole, lessons: Sequence[Lesson], rows: Sequence[Encoded], seed: int
) -> dict[str, Any]:
    """What makes two trainings the same, as the head of the card."""
    told = json.dumps([asdict(lesson) for lesson in lessons], sort_keys=True)
    return {
        "kind": "generative",
        "base": Path(role.model).name if Path(role.model).is_dir() else role.model,
        "base_sha256": weights_sha256(role.model),
        "prompt": PAIRWISE.fingerprint,
        "events": len(rows),
        "events_with_kl": sum(bool(row.letters) for row in rows),
        "events_sha256": hashlib.sha256(told.encode()).hexdigest(),
        "tokens": sum(row.prompt + row.reply for row in rows),
        "longest_event": max(row.prompt + row.reply for row in rows),
        "seed": seed,
        "settings": role.model_dump(exclude={"model"}),
    }


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The card in the folder where it is of this very training and whole."""
    file, weights = folder / ADAPTER_CARD, folder / ADAPTER_WEIGHTS
    try:
        card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = {name: card[name] for name in identity} == identity
        return card if same and card["weights_sha256"] == file_sha256(weights) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_adapter(lm: Any, role: GenerativeRole, seed: int) -> Any:
    """The model with a new adapter on all its linear layers, which at first changes nothing."""
    config = LoraConfig(
        r=role.rank,
        lora_alpha=2 * role.rank,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
    # peft asks transformers for a name that it is about to drop
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Left as eval: a dropout of the base would draw numbers that a resumed training lacks.
        return get_peft_model(lm, config).eval()


def _fit(
    student: Any, rows: Sequence[Encoded], role: GenerativeRole, seed: int, progress: Progress
) -> list[dict[str, float]]:
    """Fits the adapter; the history, a row a step."""
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    solver = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0)
    state = progress.read(0)
    if state:
        set_peft_model_state_dict(student, state["adapter"])
        solver.load_state_dict(state["solver"])
    history: list[dict[str, float]] = state.get("history", [])
    steps = math.ceil(len(rows) / role.batch)
    for epoch in range(state.get("epochs", 0), role.epochs):
        order = random.Random(f"{seed} {epoch}").sample(list(rows), len(rows))
        label = f"epoch {epoch + 1}/{role.epochs}"
        with tqdm(total=steps, desc=label, file=sys.stdout, mininterval=2) as bar:
            for step in range(steps):
                share = schedule(epoch * steps + step, role.epochs * steps)
                solver.param_groups[0]["lr"] = role.rate * share
                batch = order[step * role.batch : (step + 1) * role.batch]
                figures = _step(student, batch, role.alpha)
                torch.nn.utils.clip_grad_norm_(weights, CLIP)
                solver.step()
                solver.zero_grad()
                history.append({"epoch": epoch + 1, "step": step} | figures)
                bar.set_postfix(loss=f"{figures['loss']:.3f}")
                bar.update()
        adapter = get_peft_model_state_dict(student, save_embedding_layers=False)
        done = {"adapter": adapter, "solver": solver.state_dict(), "history": history}
        progress.write(0, done | {"epochs": epoch + 1})
    return history


def _step(student: Any, batch: Sequence[Encoded], alpha: float) -> dict[str, float]:
    """Gradients of a batch, one lesson at a time; the figures are means a lesson."""
    sums = {"loss": 0.0, "ce": 0.0, "kl": 0.0}
    device, dtype = student.device, student.get_input_embeddings().weight.dtype
    for row in batch:
        # The logits before each token of the reply; all others would fill the memory unused.
        places = torch.arange(row.prompt - 1, row.prompt + row.reply - 1, device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            # No mask is needed: padding stands last, where no token of the lesson looks.
            out = student(
                input_ids=row.ids[None].to(device), use_cache=False, logits_to_keep=places
            )
        loss = lesson_loss(out.logits[0], row, alpha)
        (loss.total / len(batch)).backward()
        for name, term in zip(sums, (loss.total, loss.ce, loss.kl), strict=True):
            sums[name] += term.item() / len(batch)
    return sums


def _save(student: Any, folder: Path, card: dict[str, Any]) -> None:
    """Writes weights, settings, then the card with the weights' hash; each aside, then renamed."""
    adapter = get_peft_model_state_dict(student, save_embedding_layers=False)
    with aside(folder / ADAPTER_WEIGHTS) as part:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in adapter.items()}, part
        )
    config = student.peft_config["default"]
    config.base_model_name_or_path = card["base"]  # not where it lies on this machine
    with TemporaryDirectory() as made, aside(folder / ADAPTER_CONFIG) as part:
        config.save_pretrained(made)
        part.write_bytes((Path(made) / ADAPTER_CONFIG).read_bytes())
    card["weights_sha256"] = file_sha256(folder / ADAPTER_WEIGHTS)
    card["versions"] = {name: version(name) for name in ("torch", "transformers", "peft")}
    with aside(folder / ADAPTER_CARD) as part:
        part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
