"""An external arm that does not beat the mean is called failed fine-tuning, in the table, the gates and in words."""

import pandas as pd
import pytest

from geoladder.report.external import FAILED, LEARNT, NO_BETTER, external_arms
from geoladder.report.gates import write_gates
from geoladder.runs.digest import discard
from geoladder.study.downstream import Gates


@pytest.fixture
def with_external(table):
    """The planted study, whose U-Net is said to be two external arms: TerraMind learns, Prithvi does not."""
    rows = pd.read_csv(table)
    arm = rows[rows.corpus.eq("majortom") & rows.stage.eq("finetune") & rows.task.eq("roads")]
    arms = [
        arm.assign(corpus="released", architecture=architecture, size=size).assign(
            value=arm.metric.map({"r2": skill, "rmse": 1 - skill})
        )
        for architecture, size, skill in (("terramind", "base", 0.3), ("prithvi", "300M", -0.02))
    ]
    discard(table)  # and its seal, which would not fit
    pd.concat([rows, *arms]).to_csv(table, index=False)
    return table


def test_the_table_says_which_arms_have_failed(with_external):
    arms = external_arms(pd.read_csv(with_external)).set_index(["architecture", "n"])
    assert arms.loc[("terramind", 16), "verdict"] == LEARNT
    assert arms.loc[("prithvi", 16), "verdict"] == FAILED.format(NO_BETTER)
    assert arms.loc[("prithvi", 16), "difference"] == pytest.approx(0.01)
    assert set(arms.seeds) == {3}


def test_an_arm_that_diverged_has_failed(with_external):
    rows = pd.read_csv(with_external)
    rows.loc[rows.architecture.eq("terramind"), "value"] = float("nan")
    assert set(external_arms(rows).verdict) == {FAILED.format(NO_BETTER)}


def test_an_arm_that_stayed_at_the_mean_has_failed_however_it_tests(with_external):
    """A run whose best step is 0 predicts the mean; on test patches, rounding may put it on either side."""
    rows = pd.read_csv(with_external)
    rows.loc[rows.architecture.eq("terramind") & rows.seed.lt(2), "best_step"] = 0
    rows.to_csv(with_external, index=False)
    arms = external_arms(rows).query("architecture == 'terramind'")
    assert (arms.difference < 0).all() and set(arms.learnt) == {1}
    assert set(arms.verdict.str.split("; ").str[0]) == {
        "failed fine-tuning: in 2 of 3 seeds no step was better on validation patches than the mean of the training "
        "labels"
    }
    out = with_external.with_name("gates.csv")
    write_gates(with_external, Gates(size="s", n=256, seeds=[0, 1, 2]), "majortom", out)
    gate = pd.read_csv(out).set_index("subject").loc["roads, terramind-base released"]
    assert not gate.passed and "judges the training" in gate.detail


def test_the_gate_fails_and_says_that_it_judges_the_training(with_external):
    out = with_external.with_name("gates.csv")
    write_gates(with_external, Gates(size="s", n=256, seeds=[0, 1, 2]), "majortom", out)
    gates = pd.read_csv(out).set_index("subject")
    assert gates.loc["roads, terramind-base released", "passed"]
    failed = gates.loc["roads, prithvi-300M released"]
    assert not failed.passed and "judges the training, not the model" in failed.detail


def test_a_study_without_external_arms_has_an_empty_table(table):
    arms = external_arms(pd.read_csv(table))
    assert arms.empty and "verdict" in arms
