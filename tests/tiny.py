"""A tiny random base whose tokens are words, and toy questions, for the tests of the student."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from nbutils.causal_lm import SHIPPED
from nbutils.resolution import soft_target
from nbutils.scoring.backbone import Base, Group
from nbutils.scoring.student import Settings, Student
from nbutils.scoring.targets import Example, Target

TOYS = ["gull", "tern", "skua", "hut", "boat", "mast", "rope", "lamp"]
TOYS += ["wind", "snow", "rain", "ice", "rock", "cliff", "path", "map"]
MARKS = ["<unk>", "<|im_start|>", "<|im_end|>"]
WORDS = [*MARKS, "user", "assistant", "Question", "Passage", "Answer", ":"]
WORDS += ["[[", "]]", "A", "B", "C", "is", "better", ".", *TOYS]

SETTINGS = Settings(
    layers=(2, 4), first=2, last=3, rank=2, rate=3e-3, epochs=2, batch=4, decay=0.01, folds=3
)


def llama_config(**fields):
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.15,
    }
    return LlamaConfig(**sizes | fields)


def save_base(folder, config, seed=0):
    """Writes a random model of the config, with the tokenizer of words, and returns the folder."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = {
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(WORDS)},
            "unk_token": MARKS[0],
        },
        "pre_tokenizer": {"type": "Whitespace"},
    }
    (folder / "words.json").write_text(json.dumps(words))
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "words.json"),
        unk_token=MARKS[0],
        bos_token=MARKS[1],
        eos_token=MARKS[2],
    ).save_pretrained(folder)
    return folder


def in_float32(folder=SHIPPED):
    """The base of a folder, or the shipped one, as on a processor without bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
        return Base(folder)


def group(*answers, question="boat", source="rope lamp . wind snow ."):
    return Group(question, source, answers)


def random_student(base, kind="probe", seed=0):
    """A student whose heads, adapters and calibration are drawn at random."""
    torch.manual_seed(seed)
    found = base.read(group("gull", "tern skua", "hut"), SETTINGS.layers, SETTINGS.first).features
    student = Student(base, SETTINGS, kind, found.mean(0), found.std(0) + 0.1)
    student.heads = torch.randn(student.heads.shape) / 10
    for member in range(SETTINGS.folds if kind == "lora" else 0):
        for name, weight in student.add_adapter(member).named_parameters():
            if f"member{member}." in name:
                weight.data = torch.randn(weight.shape) / 5
    if student.upper is not None:
        student.upper.eval()
    return student


def toy_examples(count, seed=0, rule="gull"):
    """Questions of six sections, three answers each; the one answer that holds the word wins."""
    draw = random.Random(seed)
    found = []
    others = [word for word in TOYS if word not in ("gull", rule)]
    for number in range(count):
        texts = [" ".join(draw.sample(others, 3)) for _ in range(3)]
        best = draw.randrange(3)
        texts[best] = " ".join(draw.sample([rule, *draw.sample(others, 2)], 3))
        pairs = []
        for first, second in ((0, 1), (1, 2), (2, 0)):
            label = "a" if first == best else "b" if second == best else "tie"
            target = soft_target(label, label)
            told = ("a", "b", "tie").index(label)
            pairs.append(Target(f"p{number}{first}", first, second, told, target))
        asked = group(*texts, question=draw.choice(TOYS), source=" ".join(draw.sample(TOYS, 5)))
        grades = tuple(0.9 if place == best else 0.2 for place in range(3))
        section = f"section {number % 6}"
        found.append(Example(f"q{number}", section, asked, tuple(pairs), grades))
    return found
