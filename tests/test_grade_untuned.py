import numpy as np
import pytest
import torch

from nbutils.evaluation import untuned
from nbutils.grading import grade_untuned
from nbutils.grading.grade_measures import Mark
from nbutils.grading.grade_untuned import SCORES, grade_generated, untuned_judge
from nbutils.prompts import GRADE, render_grade
from nbutils.records import Answer, Question
from nbutils.scoring.backbone import BackboneError
from tests import tiny as make

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = [
    Question("q", "test", "s", "fact", "Which boat ?", "", "c", "c", "gull lamp . tern rope"),
    Question("r", "test", "s", "fact", "Which hut ?", "", "c", "c", "snow wind"),
]
ANSWERS = [
    Answer("q", "x", "gull lamp"),
    Answer("r", "x", "snow"),
    Answer("q", "y", "tern rope mast"),
    Answer("elsewhere", "x", "ice"),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A tiny base whose words hold the digits, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "WORDS", [*make.WORDS, *"0123456789"])
        return make.in_float32(
            make.save_base(tmp_path_factory.mktemp("digits"), make.llama_config())
        )


def alone(base, question, answer):
    """(11,) probabilities of 0.0 to 1.0, each choice from a plain pass over one prompt."""
    prompt = base.chat(render_grade(question.question, question.source, answer.text))

    def choice(written, *texts):
        with torch.no_grad():
            ids = torch.tensor([prompt + base.text(written)])
            logits = base.lm(input_ids=ids).logits[0, -1].double()
        tokens = [base.text(written + text)[-1] for text in texts]
        return torch.softmax(logits[tokens], -1).tolist()

    zero, one = choice("[[", "0", "1")
    point, close = choice("[[0", ".", "]]")
    tenths = [zero * point * share for share in choice("[[0.", *"0123456789")]
    tenths[0] += zero * close
    return [*tenths, one]


def assert_as_separate_passes(base):
    found = grade_untuned.grade_untuned(base, QUESTIONS, ANSWERS)
    assert set(found) == {("q", "x"), ("q", "y"), ("r", "x")}
    asked = {question.question_id: question for question in QUESTIONS}
    for answer in ANSWERS[:3]:
        shares = found[answer.question_id, answer.answerer]
        assert shares == pytest.approx(alone(base, asked[answer.question_id], answer), abs=1e-4)
        assert shares.sum() == pytest.approx(1)
        assert (shares >= 0).all()


def test_probabilities_are_those_of_separate_passes(digits):
    assert_as_separate_passes(digits)


def test_so_are_those_of_the_shipped_base(smollm, monkeypatch):
    short = grade_untuned.render_grade

    def shortened(*arguments):  # the rules are long; a tenth of them shows the same, faster
        system, user = short(*arguments)
        return [system | {"content": system["content"][:150]}, user]

    monkeypatch.setattr(grade_untuned, "render_grade", shortened)
    monkeypatch.setitem(globals(), "render_grade", shortened)
    assert_as_separate_passes(smollm)


def test_the_shipped_base_writes_a_score_token_by_token(smollm):
    pieces = ["[[", "0", ".", "8", "]]"]
    assert smollm.text("".join(pieces)) == [smollm.text(piece)[0] for piece in pieces]


def test_a_base_with_other_tokens_is_named(tiny):
    # Its words hold no digits: 0 to 9 are one unknown word, but each is still one token.
    grade_untuned.grade_untuned(tiny, QUESTIONS, ANSWERS[:1])
    with pytest.MonkeyPatch.context() as patch:
        whole = tiny.text
        patch.setattr(tiny, "text", lambda text: [7] if text.endswith("0.") else whole(text))
        with pytest.raises(BackboneError, match=r"write '\[\[0\.' as '\[\[0' and one token more"):
            grade_untuned.grade_untuned(tiny, QUESTIONS, ANSWERS[:1])


def test_the_judge_by_hand():
    # 0.2 on 0.3, 0.2 on 0.9, 0.6 on 1.0: expected 0.06 + 0.18 + 0.6; above 0.8: 0.8
    shares = np.zeros(11)
    shares[[3, 9, 10]] = 0.2, 0.2, 0.6
    low = np.zeros(11)
    low[[8, 10]] = 0.5, 0.5  # 0.8 is not above 0.8: one half, and one half is not above 1/2
    found = untuned_judge({("q", "x"): shares, ("q", "y"): low}, 0.8)
    assert found.name == "untuned"
    expected = (True, *(pytest.approx(value) for value in (0.84, 0.84, 0.8)))
    assert found.marks["q", "x"] == Mark(*expected)
    assert found.marks["q", "y"] == Mark(False, *map(pytest.approx, (0.9, 0.9, 0.5)))


def test_scores_are_tenths():
    assert SCORES == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


# Generated replies.


@pytest.fixture
def replies(monkeypatch):
    """Makes the base reply what is set here, and keeps what it was asked."""
    told = {"replies": [], "asked": []}

    def generate(base, prompts):
        told["asked"].append(prompts)
        return [told["replies"].pop(0) for _ in prompts]

    monkeypatch.setattr(grade_untuned, "generate", generate)
    return told


def test_replies_are_read_as_the_teacher_s_are(tiny, replies):
    replies["replies"] = [("Right.\n[[0.7]]", "stop"), ("[[7/10]]", "stop"), ("Well", "length")]
    found = grade_generated(tiny, QUESTIONS, ANSWERS[:3], batch=2)
    assert [row.score for row in found] == [0.7, None, None]
    assert found[1].reason == "no marker on the last line"
    assert found[2].reason == "cut off: finish reason 'length'"
    assert {(row.judge, row.prompt) for row in found} == {("untuned", GRADE.fingerprint)}
    assert [(row.question_id, row.answerer) for row in found] == [
        ("q", "x"),
        ("r", "x"),
        ("q", "y"),
    ]
    assert [len(prompts) for prompts in replies["asked"]] == [2, 1]
    system, user = replies["asked"][0][0]
    assert system["content"] == GRADE.system and "<answer>\ngull lamp\n</answer>" in user["content"]


def test_a_base_that_goes_on_is_cut_off(tiny, monkeypatch):
    monkeypatch.setattr(untuned, "LONGEST", 6)
    (row,) = grade_generated(tiny, QUESTIONS, ANSWERS[:1])
    assert (row.score, row.reason) == (None, "cut off: finish reason 'length'")
    assert row.reply
