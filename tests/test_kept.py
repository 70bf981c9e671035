import pytest
import torch

from nbutils.grading.frozen import frozen_features, read_answers
from nbutils.records import Answer
from nbutils.scoring.backbone import Group
from nbutils.scoring.kept import keep_features, load_features
from nbutils.scoring.student import StudentError
from nbutils.scoring.targets import Example
from tests import rows
from tests.tiny import random_student

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = [rows.question("q1"), rows.question("q2")]
ANSWERS = [Answer("q1", "x", "gull lamp"), Answer("q1", "y", "tern rope"), Answer("q2", "x", "ice")]


@pytest.fixture
def kept(tiny, tmp_path):
    """The file of q1's features, and the student that read them."""
    student = random_student(tiny)
    question = QUESTIONS[0]
    group = Group(question.question, question.source, ("gull lamp", "tern rope"))
    example = Example("q1", question.section, group, (), (None, None))
    path = tmp_path / "features.safetensors"
    keep_features(path, [example], [student.read(group)], tiny, student.settings.layers)
    return path, student


def test_what_was_kept_is_what_would_be_read(tiny, kept):
    path, student = kept
    stored = load_features(path, tiny, student.settings.layers)
    assert len(stored) == 2
    found = frozen_features(student, QUESTIONS, ANSWERS, stored)
    expected, _ = read_answers(student, QUESTIONS, ANSWERS)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[key], expected[key], atol=1e-4) for key in expected)
    assert any(torch.equal(found["q1", "x"], one) for one in stored.values())


def test_a_question_with_a_changed_answer_is_read_again(tiny, kept):
    path, student = kept
    stored = load_features(path, tiny, student.settings.layers)
    changed = [ANSWERS[0], Answer("q1", "y", "ice")]
    found = frozen_features(student, QUESTIONS[:1], changed, stored)
    expected, _ = read_answers(student, QUESTIONS[:1], changed)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_features_of_other_layers_are_refused(tiny, kept):
    path, student = kept
    with pytest.raises(StudentError, match=r"features.safetensors: read by .* 05_distil again"):
        load_features(path, tiny, (*student.settings.layers, 0))


def test_a_damaged_file_is_refused(tiny, kept):
    path, student = kept
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StudentError, match="run notebook 05_distil again"):
        load_features(path, tiny, student.settings.layers)
