from dataclasses import replace
from math import exp

import pytest

from nbutils.evaluation import floors
from nbutils.evaluation.agreement import Card, Judge, scorecard
from nbutils.profiles import DATA
from nbutils.records import Answer, Judgement, Pair, Question, Resolution, Resolved, load_dataset
from nbutils.resolution import resolve_all
from nbutils.verdicts import in_pair_labels, read_verdict

PAIRS = [Pair("p1", "test", "q1", "x", "y"), Pair("p2", "test", "q1", "y", "z")]
SOURCE = "The boat leaves at 6.30 from Gull Stair."
ANSWERS = [
    Answer("q1", "x", "The boat leaves at noon."),
    Answer("q1", "y", "At 6.30, from Gull Stair"),
    Answer("q1", "z", "Gull Stair.............."),
]
QUESTION = Question("q1", "test", "Boats", "fact", "When?", "At 6.30.", "c1", "c1", SOURCE)


def verdicts(judge: Judge) -> dict[str, str]:
    return {key: row.verdict for key, row in judge.resolutions.items()}


def won(*verdict: Resolved) -> list[Resolution]:
    return [Resolution(f"p{n}", "teacher", one) for n, one in enumerate(verdict, 1)]


def test_always_first_flips_every_pair() -> None:
    judge = floors.always_first(PAIRS)
    assert verdicts(judge) == {"p1": "conflict", "p2": "conflict"}
    figures = scorecard(judge, [judge], PAIRS, seed=0)["judges"]["always first"]["all"]
    assert (figures["first_choice"], figures["flip_rate"], figures["agreement"]) == (1, 1, 0)


def test_longest_counts_characters_and_ties_equal_lengths() -> None:
    judge = floors.longest(PAIRS, ANSWERS)  # 24, 24 and 24 characters
    assert verdicts(judge) == {"p1": "tie", "p2": "tie"}
    longer = [*ANSWERS[:2], replace(ANSWERS[2], text=ANSWERS[2].text + "..")]
    judge = floors.longest(PAIRS, longer)
    assert (verdicts(judge)["p2"], judge.resolutions["p2"].margin) == ("b", -2)


def test_trigram_share() -> None:
    # the boat leaves, boat leaves at: in the source; leaves at noon: not.
    assert floors.trigram_share(ANSWERS[0].text, SOURCE) == 2 / 3
    # at 6 30, 6 30 from, 30 from gull, from gull stair: all in, whatever the case and the comma.
    assert floors.trigram_share(ANSWERS[1].text, SOURCE) == 1


def test_a_trigram_said_twice_counts_once() -> None:
    # the boat leaves (in), boat leaves the, leaves the boat, and the boat leaves again: 1 of 3.
    assert floors.trigram_share("the boat leaves the boat leaves", SOURCE) == 1 / 3


@pytest.mark.parametrize("answer", ["", "Gull Stair", "At?"])
def test_an_answer_of_fewer_than_three_words_gets_nothing(answer: str) -> None:
    assert floors.trigram_share(answer, SOURCE) == 0


def test_trigrams_choose_the_larger_share() -> None:
    judge = floors.trigrams(PAIRS, [QUESTION], ANSWERS)
    assert verdicts(judge) == {"p1": "b", "p2": "a"}
    assert judge.resolutions["p1"].margin == pytest.approx(2 / 3 - 1)


def test_strengths_solve_the_penalised_likelihood() -> None:
    # x beats y three times of four. At the optimum the slope is 0, and s_x = -s_y = s:
    # 3 - 4 / (1 + exp(-2 s)) = RIDGE * s
    pairs = [Pair(f"p{n}", "train", f"q{n}", "x", "y") for n in range(1, 5)]
    table = floors.strengths(pairs, won("a", "a", "a", "b")).table
    s = table["x"]
    assert s == pytest.approx(-table["y"], abs=1e-4)
    assert 3 - 4 / (1 + exp(-2 * s)) == pytest.approx(floors.RIDGE * s, abs=1e-3)


def test_ties_are_half_wins_and_undecided_pairs_are_skipped_and_counted() -> None:
    pairs = [Pair(f"p{n}", "train", f"q{n}", "x", "y") for n in range(1, 5)]
    found = floors.strengths(pairs, won("tie", "tie", "conflict", "unreadable"))
    assert (found.used, found.skipped) == (2, 2)
    assert found.table == pytest.approx({"x": 0, "y": 0}, abs=1e-6)


def test_an_answerer_that_always_wins_stays_finite() -> None:
    pairs = [Pair(f"p{n}", "train", f"q{n}", "x", "y") for n in range(1, 51)]
    table = floors.strengths(pairs, won(*["a"] * 50)).table
    assert list(table) == ["x", "y"]
    assert 0 < table["x"] < 10


def test_identity_carries_strength_over_a_common_opponent() -> None:
    train = [Pair("p1", "train", "q1", "x", "y"), Pair("p2", "train", "q2", "y", "z")]
    judge = floors.identity(train, won("a", "a"), [Pair("p9", "test", "q9", "z", "x")])
    assert verdicts(judge) == {"p9": "b"}  # x beats y beats z


def test_identity_of_an_answerer_that_train_does_not_hold_is_an_error() -> None:
    train = [Pair("p1", "train", "q1", "x", "y")]
    with pytest.raises(ValueError, match=r"pair 'p2': train has no answer of \['z'\]"):
        floors.identity(train, won("a"), [PAIRS[1]])


@pytest.fixture(scope="module")
def shipped() -> Card:
    """The floors' scorecard on the test split of data/kestrel."""
    data = load_dataset(DATA)
    judgements = []
    for row in data.judgements:
        letter = read_verdict(row.reply).letter
        assert letter is not None  # the data card: every reply is readable
        verdict = in_pair_labels(letter, row.order)
        judgements.append(Judgement(row.pair_id, row.order, "teacher", "p", row.reply, verdict))
    resolutions = resolve_all(judgements)
    teacher = Judge("teacher", {row.pair_id: row for row in resolutions}, judgements)
    train, test = ([pair for pair in data.pairs if pair.split == s] for s in ("train", "test"))
    judges = [
        floors.always_first(test),
        floors.longest(test, data.answers),
        floors.trigrams(test, data.questions, data.answers),
        floors.identity(train, resolutions, test),
    ]
    assert tuple(judge.name for judge in judges) == floors.FLOORS
    return scorecard(teacher, judges, test, seed=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # three-way agreement, preference accuracy: all, contrast, like strength
        (floors.ALWAYS_FIRST, (0, 0, 0, 0)),
        (floors.LONGEST, (0.37, 0.42, 0.44, 0.37)),
        (floors.TRIGRAMS, (0.66, 0.74, 0.89, 0.65)),
        (floors.IDENTITY, (0.78, 0.87, 1.00, 0.33)),
    ],
)
def test_the_floors_on_the_shipped_data(shipped: Card, name: str, expected: tuple[float]) -> None:
    figures = shipped["judges"][name]
    found = [figures["all"]["agreement"]]
    found += [figures[subset]["preference"] for subset in ("all", "contrast", "like strength")]
    assert found == pytest.approx(expected, abs=0.005)
    sizes = {subset: figures[subset]["pairs"] for subset in ("all", "contrast", "like strength")}
    assert sizes == {"all": 510, "contrast": 63, "like strength": 65}


def test_the_ceiling_on_the_shipped_data(shipped: Card) -> None:
    teacher = shipped["teacher"]["all"]
    assert teacher["same_in_both"] == pytest.approx(486 / 510, abs=1e-6)
    assert (teacher["leaning"], teacher["conflict"], teacher["unreadable"]) == (13, 11, 0)
    assert teacher["first_choice"] == pytest.approx(0.501, abs=0.0005)
    assert shipped["teacher"]["contrast"]["same_in_both"] == 1
