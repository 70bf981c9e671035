"""The student's settings are the ones that the committed table chose."""

from dataclasses import asdict

import pandas as pd
import pytest

from nbutils.profiles import ROOT
from nbutils.scoring.student import Settings

FIGURES = ["agreement", "preference", "grade_order"]


@pytest.fixture(scope="module")
def best():
    table = pd.read_csv(ROOT / "benchmarks" / "student_choice.csv")
    table["mean"] = table[FIGURES].mean(axis=1)
    return table.sort_values("mean").groupby("student").tail(1).set_index("student")


def test_the_defaults_are_the_best_lora_candidate(best):
    chosen = {key: str(value) for key, value in asdict(Settings()).items()}
    row = best.loc["lora"]
    assert {key: str(row[key]) for key in chosen} == chosen


@pytest.mark.parametrize("field", ["layers", "decay", "grade_weight", "alpha", "folds"])
def test_the_probe_shares_them_where_they_concern_it(best, field):
    assert str(best.loc["probe", field]) == str(asdict(Settings())[field])


def test_every_candidate_was_judged_on_the_same_pairs():
    table = pd.read_csv(ROOT / "benchmarks" / "student_choice.csv")
    assert table["pairs"].unique().tolist() == [585]  # the train split's
    assert not table.duplicated(["candidate", "student"]).any()
