"""A causal LM, its tokenizer and adapter, from disk or hub. Never unpickles, never generates."""

import hashlib
import json
import shutil
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from nbutils.weights import GGUF_NAME, SHA256, base_model

SHIPPED = "smollm2-135m-instruct"  # the name of the base that comes with the package
# Sequences are padded to a multiple of this: oneDNN compiles its kernels anew for every new length.
ROUND = 64
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
UNPACKED = "unpacked.json"  # what a copy was made from, and its files
ADAPTER_CARD = "generative.json"  # written by generative.py; an adapter from elsewhere has none


class ModelFilesError(ValueError):
    """Files of a model or an adapter that cannot be used; the message names the remedy."""


def best_device() -> tuple[torch.device, torch.dtype]:
    """An accelerator where there is one; bfloat16 where it, or the processor, has that."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return torch.device("cpu"), processor_dtype()
    bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return device, torch.bfloat16 if bf16 else torch.float32


def processor_dtype() -> torch.dtype:
    """bfloat16 where the processor has it, float32 else."""
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def load_lm(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The frozen model and its tokenizer; `model` is SHIPPED, a folder or a hub id.

    Of the model's own generation settings only the tokens that end a reply are kept, as the list
    config.eos_token_id, so that a profile's sampling is all that decides. Raises OSError where
    there are no safetensors weights: other formats can carry code.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    where = str(_unpacked(dtype)) if model == SHIPPED else model
    lm = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(where)
    told = lm.generation_config.eos_token_id
    stops = {tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])} - {None}
    lm.config.eos_token_id, lm.generation_config = sorted(stops), GenerationConfig()
    return lm.requires_grad_(False), tokenizer


def _unpacked(dtype: torch.dtype) -> Path:
    """The shipped weights as safetensors of that type, beside the GGUF file; checked by hash.

    transformers parses a GGUF file three times over, which takes longer than all else at the start
    of a notebook. So it does that once. The copy is made aside and anew where it is damaged or of
    another version of transformers.
    """
    packed = base_model()
    folder = packed / f"{SHIPPED}-{str(dtype).removeprefix('torch.')}"
    with FileLock(packed / ".unpack.lock"):
        if not _is_whole(folder):
            with tempfile.TemporaryDirectory(dir=packed, prefix=".unpack-") as name:
                part = Path(name, "copy")
                _unpack(packed, part, dtype)
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
    return folder


def _unpack(packed: Path, part: Path, dtype: torch.dtype) -> None:
    """Writes the copy and, last, the list of its files."""
    # Without dequantize the weights stay packed, and every product unpacks them again.
    how = GgufConfig(dequantize=True)
    with redirect_stderr(StringIO()):  # a bar that cannot be switched off
        lm = AutoModelForCausalLM.from_pretrained(
            packed, gguf_file=GGUF_NAME, dtype=dtype, quantization_config=how
        )
    lm.save_pretrained(part)
    AutoTokenizer.from_pretrained(packed, gguf_file=GGUF_NAME).save_pretrained(part)
    files = {file.name: file_sha256(file) for file in sorted(part.iterdir())}
    (part / UNPACKED).write_text(json.dumps(_origin() | {"files": files}, indent=1))


def _is_whole(folder: Path) -> bool:
    """Whether a copy is of these weights and this transformers, and no file of it has changed."""
    if not (folder / UNPACKED).is_file():
        return False
    told = json.loads((folder / UNPACKED).read_text())
    return told.items() >= _origin().items() and all(
        (folder / name).is_file() and file_sha256(folder / name) == digest
        for name, digest in told["files"].items()
    )


def _origin() -> dict[str, str]:
    return {"gguf": SHA256, "transformers": transformers.__version__}


def weights_sha256(model: str) -> str:
    """SHA-256 (hex) of the shipped weights' file, or of a folder's or hub id's safetensors files.

    Raises ModelFilesError where there are none.
    """
    if model == SHIPPED:
        return SHA256
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(str(cached_file(model, "config.json"))).parent
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        remedy = "save the model there with save_pretrained, which writes them"
        raise ModelFilesError(f"{folder}: no *.safetensors file; {remedy}")
    told = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()


def adapter_sha256(folder: str | Path) -> str:
    """SHA-256 (hex) of an adapter's weights. Raises ModelFilesError where there are none."""
    weights = Path(folder) / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ModelFilesError(f"{weights} is missing: train the adapter, or mend the path")
    return file_sha256(weights)


def load_adapter(lm: Any, folder: str | Path, model: str) -> Any:
    """The model under a LoRA adapter, whose weights are read from safetensors alone.

    Where the folder has a card of ours, raises ModelFilesError unless the card is of these weights
    and of this base.
    """
    found = {"weights_sha256": adapter_sha256(folder)}
    card = Path(folder) / ADAPTER_CARD
    if card.exists():
        found["base_sha256"] = weights_sha256(model)
        try:
            told = json.loads(card.read_text(encoding="utf-8"))
            unlike = [name for name, value in found.items() if told[name] != value]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFilesError(f"{card}: {error!r}; train the adapter again") from None
        for name in unlike:
            why = f"field '{name}': {told[name]} is not {found[name]}, as found with {model}"
            raise ModelFilesError(f"{card}: {why}; train the adapter again, on this base")
    return PeftModel.from_pretrained(lm, str(folder)).eval()


def file_sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
