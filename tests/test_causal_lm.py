import hashlib
import json
import os
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GenerationConfig

from nbutils import causal_lm, weights
from nbutils.causal_lm import (
    ADAPTER_CARD,
    ADAPTER_WEIGHTS,
    SHIPPED,
    ModelFilesError,
    adapter_sha256,
    best_device,
    load_adapter,
    load_lm,
    weights_sha256,
)
from nbutils.writing.generation import Chooser, generate
from tests.chatty import loaded, save_chat_base

pytestmark = pytest.mark.usefixtures("one_thread")


class Trap:
    """What a pickle may hold: code that runs where it is loaded."""

    def __reduce__(self):
        return sprung, ()


def sprung():
    raise AssertionError("a pickle was run")


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    return save_chat_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, folder):
    """A folder with a random adapter for the base."""
    torch.manual_seed(1)
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    lm = get_peft_model(loaded(folder)[0], LoraConfig(r=2, target_modules="all-linear"))
    for name, weight in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    lm.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


# The base.


class Parsed(Exception):
    """The GGUF file was to be parsed."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with the shipped weights and their copy in float32, where no GGUF file is parsed."""
    load_lm(SHIPPED, torch.float32)
    own = tmp_path / "cache"
    shutil.copytree(weights.base_model(), own, copy_function=os.link)
    monkeypatch.setenv("NBUTILS_CACHE", str(own))
    read = AutoModelForCausalLM.from_pretrained

    def no_gguf(where, **how):
        if "gguf_file" in how:
            raise Parsed
        return read(where, **how)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", no_gguf)
    return own / f"{SHIPPED}-float32"


def test_the_shipped_weights_are_unpacked_once(cache):
    lm, tokenizer = load_lm(SHIPPED, torch.float32)
    assert lm.num_parameters() == 134_515_008 and lm.dtype == torch.float32
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 2


def test_a_copy_that_is_damaged_or_of_another_library_is_made_anew(cache, monkeypatch):
    config = cache / "config.json"
    text = config.read_text()
    config.unlink()  # not the file that it is linked to
    config.write_text(text.replace("Llama", "Lxama", 1))
    with pytest.raises(Parsed):
        load_lm(SHIPPED, torch.float32)
    config.write_text(text)
    load_lm(SHIPPED, torch.float32)
    monkeypatch.setattr(causal_lm.transformers, "__version__", "4.0.0")
    with pytest.raises(Parsed):
        load_lm(SHIPPED, torch.float32)


def test_only_what_ends_a_reply_is_kept_of_the_model_s_own_settings(folder):
    plain, tokenizer = loaded(folder)
    assert plain.config.eos_token_id == [tokenizer.eos_token_id] == [2]
    own = GenerationConfig(
        eos_token_id=[7, 5], repetition_penalty=9.0, suppress_tokens=[18], min_length=400
    )
    own.save_pretrained(folder)
    other, _ = loaded(folder)
    assert other.config.eos_token_id == [2, 5, 7]
    prompts = [[1, 18, 20], [1, 4]]
    found = [generate(lm, prompts, [], 12, Chooser()) for lm in (plain, other)]
    assert found[0] == found[1]


def test_nothing_of_a_base_is_trained(folder):
    lm, _ = loaded(folder)
    assert not lm.training and not any(weight.requires_grad for weight in lm.parameters())


def test_a_base_in_a_pickle_is_not_loaded(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_lm(str(folder), torch.float32)
    with pytest.raises(ModelFilesError, match=r"base: no \*.safetensors file; save the model"):
        weights_sha256(str(folder))


def test_a_pickle_beside_safetensors_is_left_alone(folder):
    torch.save({"lm_head.weight": Trap()}, folder / "pytorch_model.bin")
    assert load_lm(str(folder), torch.float32)[0].config.hidden_size == 32


def test_the_hash_is_of_the_weights_files(folder, tmp_path):
    # One line a file: its name and the SHA-256 of its bytes.
    one = sha((folder / "model.safetensors").read_bytes())
    assert weights_sha256(str(folder)) == sha(f"model.safetensors {one}\n".encode())
    shutil.move(folder, tmp_path / "moved")
    assert weights_sha256(str(tmp_path / "moved")) == sha(f"model.safetensors {one}\n".encode())
    (tmp_path / "moved" / "model-2.safetensors").write_bytes(b"more")
    told = f"model-2.safetensors {sha(b'more')}\nmodel.safetensors {one}\n"
    assert weights_sha256(str(tmp_path / "moved")) == sha(told.encode())
    assert weights_sha256(SHIPPED) == weights.SHA256


def test_the_device_and_its_numbers(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda has=has: has)
        assert best_device() == (torch.device("cpu"), dtype)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert best_device() == (torch.device("cuda"), dtype)


# The adapter.


def test_an_adapter_changes_what_the_base_says(folder, adapter):
    prompt = torch.tensor([[1, 18, 20]])
    lm, _ = loaded(folder)
    with torch.no_grad():
        before = lm(input_ids=prompt).logits
        after = load_adapter(lm, adapter, str(folder))(input_ids=prompt).logits
    assert (after - before).abs().max() > 0.1


def test_an_adapter_in_a_pickle_is_not_loaded(folder, adapter):
    (adapter / ADAPTER_WEIGHTS).unlink()
    torch.save({"lora": Trap()}, adapter / "adapter_model.bin")
    for use in (lambda: adapter_sha256(adapter), lambda: load_adapter(None, adapter, str(folder))):
        with pytest.raises(ModelFilesError, match="adapter_model.safetensors is missing: train"):
            use()


@pytest.fixture
def card(folder, adapter):
    """Writes the card of the adapter, with other fields where they are given."""

    def write(**other):
        fields = {
            "weights_sha256": sha((adapter / ADAPTER_WEIGHTS).read_bytes()),
            "base_sha256": weights_sha256(str(folder)),
        }
        (adapter / ADAPTER_CARD).write_text(json.dumps(fields | other))

    return write


def test_an_adapter_goes_with_its_own_base(folder, adapter, card, tmp_path):
    card()
    load_adapter(loaded(folder)[0], adapter, str(folder))
    other = save_chat_base(tmp_path / "other", seed=3)
    with pytest.raises(ModelFilesError, match="field 'base_sha256': .*other; train .* this base"):
        load_adapter(loaded(other)[0], adapter, str(other))


def test_weights_that_are_not_the_card_s_are_refused(folder, adapter, card):
    card(weights_sha256="0" * 64)
    with pytest.raises(ModelFilesError, match="generative.json: field 'weights_sha256': 0000"):
        load_adapter(loaded(folder)[0], adapter, str(folder))


@pytest.mark.parametrize("text", ["{", "[]", '{"weights_sha256": 1}'])
def test_a_broken_card_is_refused(folder, adapter, text):
    (adapter / ADAPTER_CARD).write_text(text)
    with pytest.raises(ModelFilesError, match="generative.json: .*; train the adapter again"):
        load_adapter(loaded(folder)[0], adapter, str(folder))


def test_sequences_are_rounded_for_base_and_replies_alike():
    from nbutils.scoring import backbone
    from nbutils.writing import generation

    assert causal_lm.ROUND == backbone.ROUND == generation.ROUND == 64
