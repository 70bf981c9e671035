import pytest

from nbutils.evaluation.floors import trigram_share
from nbutils.grading import grade_floors as floors
from nbutils.grading.grade_measures import Mark
from nbutils.grading.graded import GradingError
from tests.rows import table

# The text of an answer is its answerer's name: of 1 to 4 characters here.
TRAIN = table(
    {
        ("t1", "a"): 0.1, ("t1", "bb"): 0.2, ("t1", "ccc"): 1.0, ("t1", "dddd"): 0.9,
        ("t2", "a"): 0.3, ("t2", "bb"): 1.0, ("t2", "ccc"): 1.0, ("t2", "dddd"): None,
        ("t3", "a"): 0.0,
    },
    split="train",
)  # fmt: skip
TEST = table({("q1", "a"): 1.0, ("q1", "bb"): 0.0, ("q2", "ccc"): None, ("q2", "dddd"): 0.4})


def said(judge):
    return {key[1]: mark.acceptable for key, mark in judge.marks.items()}


def test_always_no():
    assert said(floors.always_no(TEST)) == dict.fromkeys(["a", "bb", "ccc", "dddd"], False)
    assert floors.always_no(TEST).marks["q1", "a"] == Mark(False)


def test_the_majority_is_that_of_train():
    # 4 of the 8 readable grades are acceptable: even, so no; without t3/a, 4 of 7
    assert not any(said(floors.majority(TRAIN, TEST)).values())
    assert all(said(floors.majority(TRAIN.iloc[:8], TEST)).values())


def test_length_ranks_by_characters_and_cuts_where_train_is_balanced_best():
    # Above 1 character: 4 of 4 good and 3 of 4 bad right; above 2: 3 of 4 and 4 of 4, as good, and
    # the higher cut of the two is taken: 2.5.
    judge = floors.length(TRAIN, TEST)
    assert judge.name == floors.LENGTH
    assert said(judge) == {"a": False, "bb": False, "ccc": True, "dddd": True}
    assert judge.marks["q2", "dddd"] == Mark(True, 4.0)


def test_its_direction_is_that_of_train():
    flipped = TRAIN.assign(acceptable=~TRAIN["acceptable"])
    judge = floors.length(flipped, TEST)  # now the short ones are good: above -1.5, and above -2.5
    assert judge.marks["q2", "dddd"].rank == -4
    assert said(judge) == {"a": True, "bb": False, "ccc": False, "dddd": False}


def test_overlap_is_the_share_of_trigrams_in_the_source():
    words = "the ferry leaves at noon"
    good = TRAIN["acceptable"].fillna(False).astype(bool)
    train = TRAIN.assign(answer=good.map({True: words, False: "no"}))
    test = TEST.assign(answer=[words, "leaves at noon today", "x", "the ferry"])
    sources = {"t1": f"Now {words}.", "t2": words, "t3": words, "q1": words, "q2": words}
    judge = floors.overlap(train, test, sources)
    ranks = [mark.rank for mark in judge.marks.values()]
    # "leaves at noon today": 1 of its 2 trigrams stands in the source
    assert ranks == [1, 0.5, 0, 0] == [trigram_share(text, words) for text in test["answer"]]
    assert list(said(judge).values()) == [True, False, False, False]  # above 1/2, from train


def test_identity_knows_each_answerer_s_share_of_train():
    judge = floors.identity(TRAIN, TEST)
    # bb: 1 of 2 acceptable, grades 0.2 and 1.0; dddd: 1 of 1 readable, grade 0.9
    assert judge.marks["q1", "bb"] == Mark(False, 0.5, pytest.approx(0.6), 0.5)
    assert judge.marks["q2", "dddd"] == Mark(True, 1.0, pytest.approx(0.9), 1.0)
    assert said(judge) == {"a": False, "bb": False, "ccc": True, "dddd": True}


def test_an_answerer_that_train_lacks_is_named():
    with pytest.raises(GradingError, match=r"train has no readable grade of \['eeeee'\]; leave"):
        floors.identity(TRAIN, table({("q", "eeeee"): 1.0}))


def test_one_class_in_train_leaves_nothing_to_choose_a_cut_by():
    one = table({("t", "a"): 0.1, ("t", "bb"): 0.2})
    with pytest.raises(GradingError, match="floor 'answer length': train has one class alone"):
        floors.length(one, TEST)
