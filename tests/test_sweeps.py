from dataclasses import replace

import numpy as np
import pytest

from nbutils.grading import resampling, sweeps
from nbutils.grading.head_measures import measure_grades, measure_pairs
from nbutils.grading.heads import fit, targets
from nbutils.grading.sweeps import Setting
from nbutils.resolution import sharpen
from tests import rows

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, TEST = rows.drawn(18, seed=1), rows.drawn(12, seed=2)
GRADES = Setting(share=1.0, threshold=0.6, tau=0.2, decay=0.05)
PAIRS = Setting(share=0.0, threshold=0.6, tau=0.2, decay=0.05)


def bootstrap(seed):
    """How often each of 18 questions is drawn, of 18."""
    drawn = np.random.default_rng(seed).integers(18, size=18)
    return np.bincount(drawn, minlength=18).astype(float)


def cell(sweep, value, measure, column="mean"):
    rows_ = sweep.table
    return rows_.loc[(rows_["value"] == value) & (rows_["measure"] == measure), column].item()


@pytest.mark.parametrize("setting", [GRADES, PAIRS])
def test_a_value_is_the_mean_over_bootstraps_of_the_training_questions(setting) -> None:
    sweep = sweeps.alpha_sweep(TRAIN, TEST, setting, seeds=3)
    weights = resampling.draws(np.arange(12), 0, sweeps.RESAMPLES)
    found = []
    for seed in range(3):
        often = bootstrap(seed)
        taught = targets(TRAIN, setting.share, 0.6, 0.25, 0.2)
        head = fit(TRAIN, taught, often, 0.05)
        if setting.share:
            found.append(measure_grades(head, TEST, 0.6, 0.2, weights)["KL"])
        else:
            found.append(measure_pairs(head, TEST, weights)["KL"])
    values = np.stack(found)
    assert cell(sweep, 0.25, "KL") == pytest.approx(values[:, 0].mean())
    low, high = np.quantile(values[:, 1:], [0.025, 0.975])  # seeds and draws of test together
    assert cell(sweep, 0.25, "KL", "low") == pytest.approx(low)
    assert cell(sweep, 0.25, "KL", "high") == pytest.approx(high)
    single = sweep.seeds
    mine = single[(single["value"] == 0.25) & (single["measure"] == "KL")]
    assert mine["seed"].tolist() == [0, 1, 2]
    assert mine["result"].tolist() == pytest.approx(values[:, 0].tolist())


def test_the_reference_differs_from_itself_by_nothing() -> None:
    sweep = sweeps.alpha_sweep(TRAIN, TEST, GRADES, seeds=2)
    own = sweep.table[sweep.table["value"] == 0.5]
    assert sweep.reference == 0.5
    assert (own[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    other = cell(sweep, 1.0, "KL") - cell(sweep, 0.5, "KL")
    assert cell(sweep, 1.0, "KL", "difference") == pytest.approx(other)
    assert len(sweep.table) == 5 * 4 and len(sweep.seeds) == 5 * 4 * 2
    assert list(dict.fromkeys(sweep.table["value"])) == list(sweeps.ALPHAS)


def test_a_temperature_of_grades_is_a_factor_of_tau() -> None:
    hot = sweeps.temperature_sweep(TRAIN, TEST, GRADES, seeds=2)
    weights = resampling.draws(np.arange(12), 0, sweeps.RESAMPLES)
    results = []
    for seed in range(2):
        often = bootstrap(seed)
        head = fit(TRAIN, targets(TRAIN, 1.0, 0.6, 0.5, 0.2 * 4), often, 0.05)
        # measured against the teacher's own distribution, of tau 0.2
        results.append(measure_grades(head, TEST, 0.6, 0.2, weights)["KL"][0])
    assert cell(hot, 4.0, "KL") == pytest.approx(np.mean(results))
    assert hot.reference == 1.0


def test_a_temperature_of_pairs_sharpens_their_soft_targets() -> None:
    hot = sweeps.temperature_sweep(TRAIN, TEST, PAIRS, seeds=2)
    flat = replace(TRAIN, targets=np.array([sharpen(tuple(row), 4.0) for row in TRAIN.targets]))
    weights = resampling.draws(np.arange(12), 0, sweeps.RESAMPLES)
    results = [
        measure_pairs(
            fit(TRAIN, targets(flat, 0.0, 0.6, 0.5, 0.2), bootstrap(seed), 0.05), TEST, weights
        )
        for seed in range(2)
    ]
    # TEST keeps the teacher's own targets, at temperature 1.
    expected = np.mean([result["KL"][0] for result in results])
    assert cell(hot, 4.0, "KL") == pytest.approx(expected)
    assert sorted(set(hot.table["value"])) == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_the_learning_curve_goes_up_to_all_questions() -> None:
    sweep = sweeps.learning_curve(TRAIN, TEST, GRADES, seeds=4)
    # 18 / 16, / 8, / 4, / 2 and all, rounded
    assert list(dict.fromkeys(sweep.table["value"])) == [1, 2, 4, 9, 18]
    assert sweep.reference == 18
    whole = sweep.seeds[(sweep.seeds["value"] == 18) & (sweep.seeds["measure"] == "AUROC")]
    assert whole["result"].nunique() == 1  # every seed's order holds all of them
    assert cell(sweep, 18, "AUROC") > cell(sweep, 1, "AUROC")


def test_a_smaller_part_is_within_the_larger_one_of_the_same_seed() -> None:
    seen = []

    def spy(rows_, taught, weights, decay):
        seen.append(weights)
        return fit(rows_, taught, weights, decay)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "fit", spy)
        sweeps.learning_curve(TRAIN, TEST, PAIRS, seeds=2)
    sizes = [int(weights.sum()) for weights in seen]
    assert sizes == [1, 1, 2, 2, 4, 4, 9, 9, 18, 18]
    for small, large in zip(seen, seen[2:], strict=False):
        assert (small <= large).all()
    assert not np.array_equal(seen[6], seen[7])  # another seed, another half


def test_what_is_taught_is_read_both_ways() -> None:
    decays = {"pairs alone": 0.05, "grades alone": 0.05, "both": 0.1}
    sweep = sweeps.taught_sweep(TRAIN, TEST, GRADES, decays, seeds=2)
    assert list(dict.fromkeys(sweep.table["value"])) == list(decays)
    assert set(sweep.table["measure"]) == {"preference on pairs", "AUROC on grades"}
    weights = resampling.draws(np.arange(12), 0, sweeps.RESAMPLES)
    results = []
    for seed in range(2):
        often = bootstrap(seed)
        head = fit(TRAIN, targets(TRAIN, 0.5, 0.6, 0.5, 0.2), often, 0.1)
        results.append(measure_pairs(head, TEST, weights)["preference"][0])
    assert cell(sweep, "both", "preference on pairs") == pytest.approx(np.mean(results))
    # The first feature makes an answer good, whichever label tells of it.
    assert all(cell(sweep, name, "AUROC on grades") > 0.8 for name in decays)


def test_the_same_seeds_give_the_same_sweep() -> None:
    one, same = (sweeps.alpha_sweep(TRAIN, TEST, PAIRS, seeds=2) for _ in range(2))
    assert one.table.equals(same.table) and one.seeds.equals(same.seeds)
