"""Claims are decided by repeated runs, at the stated rate of error, and single runs decide nothing."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.claims.inference import holm
from geoladder.scaling.claims.verdicts import evaluate, load_claims, load_runs, run_claims, verdict_table

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "published" / "results.csv"
PAPER = ROOT / "studies" / "claims" / "paper.yaml"
CURVES = ROOT / "studies" / "claims" / "published.csv"
NS = (50, 100, 500)

HEAD = "- {id: A, text: t, source: s, "
UNET_FIRST = HEAD + "better: {architecture: unet}, than: {architecture: vit}, on: {task: roads, n: all}, "


def claims_of(tmp_path, text):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    return load_claims(path)


def planted(ratios, seeds=4, noise=0.01, rng=0, architectures=("unet", "vit"), tasks=("roads",), ns=NS):
    """Runs of architectures whose error is 0.1 n^-0.1 times a ratio: a number, or a function of n."""
    draw = np.random.default_rng(rng)
    rows = []
    for task in tasks:
        for seed in range(seeds):
            for n in ns:
                shared = draw.normal(0, 0.05)  # the draw of training data, common to both arms
                for architecture, ratio in zip(architectures, ratios, strict=True):
                    factor = ratio(n) if callable(ratio) else ratio
                    y = 0.1 * n**-0.1 * factor * np.exp(shared + draw.normal(0, noise))
                    rows.append((task, "globe", architecture, "s", n, seed, y))
    return pd.DataFrame(rows, columns=["task", "corpus", "architecture", "size", "n", "seed", "y"])


def answer(tmp_path, text, table, **options):
    (verdict,) = evaluate(claims_of(tmp_path, text), table, **options)
    return verdict


@pytest.mark.parametrize("scope", ["every", "most", "mean"])
def test_planted_effects_hold_and_their_opposites_fail(tmp_path, scope):
    claim = UNET_FIRST + f"scope: {scope}}}"
    good = answer(tmp_path, claim, planted((0.9, 1.0)))
    assert (good.verdict, good.comparisons, good.seeds) == ("holds", 3, 4)
    assert good.as_plotted == "3/3 comparisons in the claimed direction"
    assert good.low_percent < -10 < good.high_percent < 0
    bad = answer(tmp_path, claim, planted((1.1, 1.0)))
    assert bad.verdict == "fails"
    assert bad.low_percent > 0 and bad.p_adjusted < 0.05


def test_noise_is_undecided(tmp_path):
    verdict = answer(tmp_path, UNET_FIRST + "scope: mean}", planted((1.0, 1.0), noise=0.05, rng=3))
    assert (verdict.verdict, verdict.reason) == ("undecided", "no significant difference in either direction")
    assert verdict.low_percent < 0 < verdict.high_percent


def test_the_mean_is_a_paired_t_test_of_means_per_seed(tmp_path):
    table = planted((0.97, 1.0), noise=0.05, rng=5)
    verdict = answer(tmp_path, UNET_FIRST + "scope: mean}", table, level=0.9)
    logs = np.log(table.pivot_table(index=["seed", "n"], columns="architecture", values="y"))
    per_seed = (logs.unet - logs.vit).groupby("seed").mean()
    expected = stats.ttest_1samp(per_seed, 0, alternative="less")
    interval = stats.ttest_1samp(per_seed, 0).confidence_interval(0.9)
    assert verdict.effect_percent == pytest.approx(100 * np.expm1(per_seed.mean()))
    assert verdict.p == pytest.approx(min(expected.pvalue, 1 - expected.pvalue))
    assert verdict.low_percent == pytest.approx(100 * np.expm1(interval.low))
    assert verdict.high_percent == pytest.approx(100 * np.expm1(interval.high))
    assert verdict.p_adjusted == pytest.approx(min(1, 2 * verdict.p))


def test_every_is_as_strong_as_its_weakest_comparison(tmp_path):
    table = planted((0.9, 1.0), noise=0.03, rng=1)
    verdict = answer(tmp_path, UNET_FIRST + "scope: every}", table)
    logs = np.log(table.pivot_table(index=["n", "seed"], columns="architecture", values="y"))
    by_n = (logs.unet - logs.vit).groupby("n")
    worst = max(stats.ttest_1samp(values, 0, alternative="less").pvalue for _, values in by_n)
    assert verdict.p == pytest.approx(worst)


def test_one_bad_comparison_of_three_separates_every_from_most_and_mean(tmp_path):
    table = planted((lambda n: 1.03 if n == 500 else 0.9, 1.0), noise=0.005)
    verdicts = {s: answer(tmp_path, UNET_FIRST + f"scope: {s}}}", table) for s in ("every", "most", "mean")}
    assert {s: v.verdict for s, v in verdicts.items()} == {"every": "fails", "most": "holds", "mean": "holds"}
    assert "roads n=500" in verdicts["every"].reason
    assert verdicts["most"].as_plotted.startswith("2/3")


def test_most_needs_the_count_as_well_as_the_mean(tmp_path):
    table = planted((lambda n: 0.7 if n == 500 else 1.03, 1.0), noise=0.005)
    most, mean = (answer(tmp_path, UNET_FIRST + f"scope: {s}}}", table) for s in ("most", "mean"))
    assert (most.verdict, most.reason) == ("undecided", "the mean and the count of comparisons disagree")
    assert mean.verdict == "holds"


def test_margin_turns_better_into_not_worse(tmp_path):
    table = planted((1.02, 1.0), noise=0.002)
    assert answer(tmp_path, UNET_FIRST + "scope: every}", table).verdict == "fails"
    within = answer(tmp_path, UNET_FIRST + "scope: every, margin: 0.05}", table)
    assert within.verdict == "holds"
    assert within.as_plotted == "3/3 not worse by more than 5 % (better 0, equal 0, worse 3)"
    assert answer(tmp_path, UNET_FIRST + "scope: every, margin: 0.01}", table).verdict == "fails"


BEST = HEAD + "best: {architecture: unet}, among: all, "


def test_null_is_as_if_left_out_and_digits_may_be_grouped(tmp_path):
    plain = UNET_FIRST.replace("n: all", "n: [50, 1000]") + "scope: mean}"
    same = UNET_FIRST.replace("n: all", "n: [50, 1_000], metric: null") + "scope: mean, margin: ~, among:}"
    assert claims_of(tmp_path, same) == claims_of(tmp_path, plain)


@pytest.mark.parametrize("scope", ["every", "most", "mean"])
def test_best_must_beat_every_rival(tmp_path, scope):
    arms = ("mamba", "unet", "vit")
    claim = BEST + f"scope: {scope}}}"
    assert answer(tmp_path, claim, planted((1.1, 0.9, 1.0), architectures=arms)).verdict == "holds"
    beaten = answer(tmp_path, claim, planted((0.8, 0.9, 1.0), architectures=arms))
    assert (beaten.verdict, beaten.as_plotted) == ("fails", "best in 0/3")
    assert beaten.effect_percent == pytest.approx(12.5, abs=2)  # against mamba, the ahead
    level = answer(tmp_path, claim, planted((0.9, 0.9, 1.0), architectures=arms, noise=0.03))
    assert level.verdict == "undecided"


def test_what_no_selector_names_must_be_equal(tmp_path):
    small, large = planted((0.9, 1.0)), planted((0.5, 0.6), rng=1).assign(size="l")
    verdict = answer(tmp_path, UNET_FIRST + "scope: every}", pd.concat([small, large]))
    assert verdict.comparisons == 6
    assert all(c.better.size == c.than.size for c in verdict.details)
    named = UNET_FIRST.replace("than: {", "than: {size: s, ") + "scope: mean}"
    assert {
        (c.better.size, c.than.size) for c in answer(tmp_path, named, pd.concat([small, large])).details
    } == {
        ("s", "s"),
        ("l", "s"),
    }


def test_too_few_seeds_decide_nothing(tmp_path):
    single = answer(tmp_path, UNET_FIRST + "scope: mean}", planted((0.5, 1.0), seeds=1))
    assert (single.verdict, single.reason) == ("undecided", "single runs: no measure of run-to-run noise")
    assert single.p is None and single.low_percent is None
    assert single.as_plotted == "3/3 comparisons in the claimed direction"
    blank = answer(tmp_path, UNET_FIRST + "}", planted((0.5, 1.0), seeds=1).assign(seed=""))
    assert (blank.verdict, blank.reason, blank.seeds) == (single.verdict, single.reason, 0)
    two = answer(tmp_path, UNET_FIRST + "scope: every}", planted((0.5, 1.0), seeds=2))
    assert two.verdict == "undecided"
    assert two.reason == "2 seeds shared by all arms that are compared: an interval needs at least 3"


def test_seeds_must_be_shared_and_real(tmp_path):
    table = planted((0.5, 1.0))
    apart = table.assign(seed=table.seed + 100 * (table.architecture == "vit"))
    verdict = answer(tmp_path, UNET_FIRST + "}", apart)
    assert (verdict.verdict, verdict.reason) == ("undecided", "the arms share no seed")
    copies = answer(
        tmp_path, UNET_FIRST + "}", table.assign(y=np.where(table.architecture == "unet", 0.1, 0.2))
    )
    assert (copies.verdict, copies.p) == ("undecided", None)
    assert "copies" in copies.reason


def test_a_seed_lacking_a_comparison_does_not_tilt_the_mean(tmp_path):
    table = planted((lambda n: 0.5 if n == 50 else 1.0, 1.0), noise=0.01)
    lacking = table[~((table.seed == 0) & (table.n == 500))]
    verdict = answer(tmp_path, UNET_FIRST + "scope: mean}", lacking)
    assert verdict.seeds == 3
    assert verdict.effect_percent == pytest.approx(100 * (0.5 ** (1 / 3) - 1), abs=2)


def test_a_listed_n_without_runs_forbids_holding(tmp_path):
    listed = UNET_FIRST.replace("n: all", "n: [50, 5000]")
    good = answer(tmp_path, listed + "scope: every}", planted((0.9, 1.0)))
    assert (good.verdict, good.reason) == ("undecided", "no runs to compare at roads n=5000")
    assert answer(tmp_path, listed + "scope: every}", planted((1.2, 1.0))).verdict == "fails"
    assert answer(tmp_path, listed + "scope: mean}", planted((1.2, 1.0))).verdict == "undecided"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (UNET_FIRST.replace("vit", "vot") + "}", "than {architecture: vot} matches nothing"),
        (UNET_FIRST.replace("vit", "vot") + "}", "did you mean 'vit'"),
        (UNET_FIRST.replace("roads", "rails") + "}", "the table has tasks roads"),
        (UNET_FIRST.replace("than: {", "than: {size: m, ") + "}", "no run has size m"),
    ],
)
def test_no_rows_is_untested_and_says_why(tmp_path, text, reason):
    verdict = answer(tmp_path, text, planted((0.9, 1.0)))
    assert verdict.verdict == "untested"
    assert reason in verdict.reason
    assert (verdict.comparisons, verdict.p, verdict.effect_percent) == (0, None, None)


FAMILY = """
- {id: mean, text: t, source: s, better: {architecture: unet}, than: {architecture: vit}, scope: mean}
- {id: most, text: t, source: s, better: {architecture: vit}, than: {architecture: mamba}, scope: most}
- {id: every, text: t, source: s, better: {architecture: unet}, than: {architecture: mamba}, scope: every}
- {id: best, text: t, source: s, best: {architecture: mamba}, among: all, scope: mean}
"""


def _wrong_share(tmp_path, text, draws, architectures):
    claims, wrong = claims_of(tmp_path, text), 0
    for draw in range(draws):
        table = planted([1.0] * len(architectures), 3, 0.03, [7, draw], architectures)
        wrong += any(v.verdict != "undecided" for v in evaluate(claims, table))
    return wrong / draws


def test_under_the_null_a_family_is_rarely_wrong(tmp_path):
    share = _wrong_share(tmp_path, FAMILY, 400, ("mamba", "unet", "vit"))
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_under_the_null_one_claim_is_wrong_as_often_as_stated(tmp_path):
    share = _wrong_share(tmp_path, UNET_FIRST + "scope: mean}", 600, ("unet", "vit"))
    assert abs(share - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / 600)


def test_more_claims_make_each_harder(tmp_path):
    table = planted((0.98, 1.0), noise=0.01, rng=2)
    one = UNET_FIRST + "scope: mean}\n"
    many = one + "".join(one.replace("id: A", f"id: B{k}") for k in range(9))
    alone, *_ = evaluate(claims_of(tmp_path, one), table)
    among, *_ = evaluate(claims_of(tmp_path, many), table)
    assert among.p == alone.p
    assert among.p_adjusted == pytest.approx(min(1, 10 * alone.p_adjusted))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.8, 1.25))
def test_swapping_the_arms_mirrors_the_verdict(tmp_path_factory, rng, ratio):
    folder = tmp_path_factory.mktemp("claims")
    table = planted((ratio, 1.0), noise=0.05, rng=rng)
    claim = UNET_FIRST + "scope: mean}"
    swapped = (
        claim.replace("unet", "x").replace("vit", "unet").replace("architecture: x", "architecture: vit")
    )
    there, back = answer(folder, claim, table), answer(folder, swapped, table)
    mirror = {"holds": "fails", "fails": "holds", "undecided": "undecided"}
    assert back.verdict == mirror[there.verdict]
    assert back.p == pytest.approx(there.p)
    assert (1 + back.effect_percent / 100) * (1 + there.effect_percent / 100) == pytest.approx(1)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_no_adjustment_and_bonferroni(p):
    adjusted = holm(p)
    assert all(a <= b <= min(1, a * len(p)) + 1e-15 for a, b in zip(p, adjusted, strict=True))


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


# C1, C2, C3, C5, C6, C9, C11, C12, C13b and C14b agree with an independent reading of the charts.
AS_PLOTTED = {
    "C1": "5/5 comparisons in the claimed direction",
    "C2": "best in 7/10",
    "C3": "5/15 not worse by more than 1 % (better 3, equal 1, worse 11)",
    "C4": "best in 9/15",
    "C5": "best in 5/5",
    "C6a": "best in 2/2",
    "C6b": "4/4 comparisons in the claimed direction",
    "C7": "27/27 comparisons in the claimed direction",
    "C8": "8/8 comparisons in the claimed direction",
    "C9": "5/6 comparisons in the claimed direction",
    "C11": "best in 5/5",
    "C12": "5/6 comparisons in the claimed direction",
    "C13b": "best in 7/10",
    "C14b": "best in 5/5",
    "C15b": "",
}


def test_published_curves_point_as_counted_and_decide_nothing():
    verdicts = {v.id: v for v in evaluate(load_claims(PAPER), load_runs(CURVES))}
    assert {v.verdict for v in verdicts.values()} == {"undecided", "untested"}
    assert [k for k, v in verdicts.items() if v.verdict == "untested"] == ["C15b"]
    assert {k: verdicts[k].as_plotted for k in AS_PLOTTED} == AS_PLOTTED
    assert {f"C{k}" for k in range(1, 16)} == {k.rstrip("ab") for k in verdicts}
    ahead = {(c.cell[0], c.cell[2], str(c.than)) for c in verdicts["C2"].details if c.effect > 0}
    assert ahead == {
        ("roads", 1000, "globe/vit_upernet/300M"),
        ("buildings", 1000, "globe/vit_upernet/300M"),
        ("buildings", 5000, "globe/unet/44M"),
        ("buildings", 5000, "globe/vit_upernet/300M"),
    }


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the digitised charts are not beside the project")
def test_published_csv_is_what_the_tool_writes():
    spec = importlib.util.spec_from_file_location("convert", ROOT / "tools" / "convert_published.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    made = tool.convert(pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False))
    assert made.to_csv(index=False) == CURVES.read_text()


def test_published_squared_errors_are_put_right():
    table = load_runs(CURVES)
    changed = table[(table.metric == "rmse") & (table.y != table.plotted)]
    changed = changed[(changed.y.astype(float) - changed.plotted.astype(float)).abs() > 1e-3]
    assert len(changed) == 4  # three points, one of them drawn under two names
    assert changed.y.astype(float).between(0.06, 0.08).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "better: {arch: unet}, than: {size: s}}", r"claim A .*\n.*better\.arch: unknown key.*corpus"),
        (
            HEAD + "best: {size: s}, among: all, on: {shots: 5}}",
            r"on\.shots: unknown key; allowed are: task, n, metric",
        ),
        (
            HEAD + "best: {size: s}, among: all, scop: mean}",
            "scop: unknown key; allowed are: id, text, source",
        ),
        (HEAD + "best: {size: s}, among: all, scope: some}", "'every', 'most' or 'mean'.*got 'some'"),
        (HEAD + "best: {size: s}, among: all, margin: -1}", "margin.*greater than or equal to 0"),
        (HEAD + "best: {size: s}, among: all, on: {n: many}}", r"on\.n: must be 'all', a positive integer"),
        (HEAD + "best: {}, among: all}", "best selects nothing in particular"),
        (HEAD + "better: {size: s}}", "needs either better and than, or best and among .got better"),
        ("- {id: A, source: s, best: {size: s}, among: all}", "text: Field required"),
        ("- {text: t, source: s, best: {size: s}, among: all}", "claim number 1 is not valid"),
        (2 * (BEST + "}\n"), "the id A is used twice"),
        ("", "must be a YAML list of claims"),
        ("claims: [", "not valid YAML"),
        ("- just text", "claim number 1 must be a mapping"),
    ],
)
def test_bad_claims_are_named(tmp_path, text, message):
    with pytest.raises(GeoladderError, match=message):
        claims_of(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["seed", "y"]), "lacks seed, y"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(y="low"), "row 1: y must be a positive number .*got 'low' .24 such rows"),
        (lambda t: t.assign(y=np.where(t.index == 2, np.nan, t.y)), "row 3: y must be"),
        (lambda t: t.assign(y=np.where(t.index == 5, 0.0, t.y)), r"row 6: y must be .*1 such rows"),
        (lambda t: t.assign(n=0.5), "n must be a positive integer"),
        (lambda t: t.assign(seed="first"), "seed must be an integer, or empty"),
        (lambda t: pd.concat([t, t.iloc[[4]]]), "row 25: .* seed 0, is given twice"),
        (lambda t: t.assign(seed=""), "no seed, is given twice"),
    ],
)
def test_bad_tables_are_refused(tmp_path, change, message):
    with pytest.raises(GeoladderError, match=message):
        answer(tmp_path, BEST + "}", change(planted((0.9, 1.0))))


def test_run_claims_writes_what_it_returns(tmp_path):
    (tmp_path / "claims.yaml").write_text(
        UNET_FIRST + "}\n" + UNET_FIRST.replace("id: A", "id: B") + "scope: mean}"
    )
    planted((0.9, 1.0)).to_csv(tmp_path / "runs.csv", index=False)
    paths = tmp_path / "claims.yaml", tmp_path / "runs.csv"
    verdicts = run_claims(*paths, tmp_path / "out" / "verdicts.csv")
    expected = verdict_table(verdicts)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "verdicts.csv", keep_default_na=False), expected, check_dtype=False
    )
    run_claims(*paths, tmp_path / "verdicts.json", 0.9)
    written = json.loads((tmp_path / "verdicts.json").read_text())
    assert [row["id"] for row in written] == ["A", "B"]
    assert list(written[0]) == list(expected.columns)


def test_run_claims_says_which_file_is_wrong(tmp_path):
    (tmp_path / "claims.yaml").write_text(UNET_FIRST + "}")
    table = tmp_path / "runs.csv"
    with pytest.raises(GeoladderError, match=r"no table of runs at .*runs\.csv"):
        run_claims(tmp_path / "claims.yaml", table, tmp_path / "out.csv")
    table.write_text("")
    with pytest.raises(GeoladderError, match=r"runs.csv is empty"):
        run_claims(tmp_path / "claims.yaml", table, tmp_path / "out.csv")
    table.write_text("task,n\nroads,5\n")
    with pytest.raises(GeoladderError, match=r"runs.csv: the table of runs lacks corpus"):
        run_claims(tmp_path / "claims.yaml", table, tmp_path / "out.csv")
    with pytest.raises(GeoladderError, match=r"\.csv or \.json"):
        run_claims(tmp_path / "claims.yaml", table, tmp_path / "out.txt")
    with pytest.raises(GeoladderError, match="level must lie between"):
        planted((0.9, 1.0)).to_csv(table, index=False)
        run_claims(tmp_path / "claims.yaml", table, tmp_path / "out.csv", 95)
    assert not (tmp_path / "out.csv").exists()
