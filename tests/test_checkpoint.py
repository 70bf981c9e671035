from dataclasses import replace

import pytest
import torch

from nbutils.scoring.checkpoint import Progress, data_hash, identity
from tests.tiny import SETTINGS, toy_examples

ROWS = toy_examples(3)


def test_each_member_finds_its_own_last_state(tmp_path):
    progress = Progress(tmp_path / "training.pt", "one")
    assert progress.read(0) == {}
    progress.write(0, {"epochs": 1, "head": torch.tensor([1.5])})
    progress.write(1, {"epochs": 7})
    progress.write(0, {"epochs": 2, "head": torch.tensor([2.5])})
    again = Progress(tmp_path / "training.pt", "one")
    assert (again.read(0)["epochs"], again.read(0)["head"].tolist()) == (2, [2.5])
    assert (again.read(1), again.read(2)) == ({"epochs": 7}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["training.pt"]


def test_the_state_of_another_training_is_neither_read_nor_kept(tmp_path):
    Progress(tmp_path / "training.pt", "one").write(0, {"epochs": 1})
    other = Progress(tmp_path / "training.pt", "other")
    assert other.read(0) == {}
    other.write(1, {"epochs": 1})
    assert (other.read(0), other.read(1)) == ({}, {"epochs": 1})


def test_whatever_a_training_depends_on_tells_it_from_others(tiny):
    first = ROWS[0]
    pair = first.pairs[0]
    texts = (*first.group.answers[:2], "map")
    rows = [
        ROWS,
        ROWS[::-1],
        ROWS[:2],
        [replace(first, group=replace(first.group, answers=texts)), *ROWS[1:]],
        [replace(first, group=replace(first.group, source="map")), *ROWS[1:]],
        [replace(first, grades=(0.1, 0.1, None)), *ROWS[1:]],
        [replace(first, section="other"), *ROWS[1:]],
        [replace(first, pairs=(replace(pair, verdict=None), *first.pairs[1:])), *ROWS[1:]],
        [replace(first, pairs=(replace(pair, target=(0.5, 0.5, 0.0)),)), *ROWS[1:]],
    ]
    assert len({data_hash(own) for own in rows}) == len(rows)
    assert data_hash(ROWS) == data_hash(toy_examples(3))
    named = [identity(tiny, own, SETTINGS, "lora", 0) for own in rows]
    named.append(identity(tiny, ROWS, replace(SETTINGS, alpha=0.4), "lora", 0))
    named.append(identity(tiny, ROWS, SETTINGS, "probe", 0))
    named.append(identity(tiny, ROWS, SETTINGS, "lora", 1))
    assert len(set(named)) == len(named)


def sprung():
    raise AssertionError("a pickle was run")


class Trap:
    def __reduce__(self):
        return sprung, ()


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"identity": Trap(), "members": {}}, tmp_path / "training.pt")
    with pytest.raises(ValueError, match="training.pt: not a checkpoint of ours .* delete it"):
        Progress(tmp_path / "training.pt", "one").read(0)


def test_a_damaged_checkpoint_is_named_with_its_remedy(tmp_path):
    (tmp_path / "training.pt").write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="training.pt: not a checkpoint of ours .* delete it"):
        Progress(tmp_path / "training.pt", "one").read(0)
