"""The tiny base of words with a chat template, and toy lessons, for tests of what is said."""

import json
import random

from transformers import AutoTokenizer

from nbutils.causal_lm import load_lm
from nbutils.writing.lessons import Lesson
from tests.tiny import TOYS, llama_config, save_base

CHATML = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def save_chat_base(folder, template=CHATML, seed=0, **fields):
    """Writes a random model with the tokenizer of words and a template, and returns the folder."""
    folder.mkdir(exist_ok=True)
    save_base(folder, llama_config(**fields), seed)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    return folder


def change_json(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def said(role, content):
    return {"role": role, "content": content}


def toy_lessons(count, seed=0):
    """Two answers of three words; the one with gull in it is better, and the teacher says so."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        texts = [" ".join(draw.sample(TOYS[1:], 3)) for _ in range(2)]
        best = draw.randrange(2)
        texts[best] = "gull " + texts[best]
        letter = "AB"[best]
        messages = [
            said("system", "is better :"),
            said("user", f"Question : boat A : {texts[0]} B : {texts[1]}"),
            said("assistant", f"{letter} is better .\n[[{letter}]]"),
        ]
        target = (0.9, 0.06, 0.04) if best == 0 else (0.06, 0.9, 0.04)
        found.append(Lesson(f"p{number}", messages, target))
    return found


def loaded(folder):
    """Model and tokenizer of a folder, in float32."""
    import torch

    return load_lm(str(folder), torch.float32)
