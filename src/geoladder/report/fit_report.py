"""The reporting checklist of a scaling-law fit, filled from the study itself, as Markdown.

The questions are those reviews of scaling-law papers find unanswered (Li et al. 2025, arXiv 2502.18969).
"""

from typing import Any

import pandas as pd

from geoladder.report.laws import interval_text

Report = dict[str, Any]


def fit_report(table: pd.DataFrame, report: Report) -> str:
    """The checklist, from results.csv and the content of laws.json."""
    runs = table[(table.stage == "pretrain") & (table.metric == report["loss"]) & (table.bucket == "all")]
    parts = ["# Fit report", _study(runs, report)]
    for architecture, entry in report["pretraining"].items():
        parts += [f"## {architecture}", *_law(entry)]
    commits = sorted({str(commit)[:12] for commit in runs.commit.dropna()})
    provenance = {
        "Runs": f"{len(runs)}, each with fingerprint, commit and seed in `results/results.csv`",
        "Commits": ", ".join(commits) or "none recorded",
    }
    parts += ["## Between architectures", _across(report["across"])]
    parts += ["## Test error against labelled patches, n", _curves(report["curves"])]
    parts += ["## Data and code", _bullets(provenance)]
    return "\n\n".join(parts) + "\n"


def _curves(laws: list[Report]) -> str:
    """Error against n of each arm: the law's equation and verdict, or why there is none."""
    facts = {}
    for entry in laws:
        law = entry["law"]
        verdict = f"no law: {entry['refusal']}"
        if law is not None:
            equation = f"`{law['equation']}`, {law['n_points']} sizes, "
            verdict = equation + law["identifiability"]["verdict"].replace("_", " ")
        arm = f"{entry['architecture']}-{entry['size']} from {entry['corpus']}"
        unusual = [part for part in (entry["mode"], entry["transfer"]) if part not in ("full", "all")]
        facts[f"{entry['task']}, {', '.join((arm, *unusual))}"] = verdict
    return _bullets(facts) if facts else "No arm has three n."


def _study(runs: pd.DataFrame, report: Report) -> str:
    settings = report["settings"]
    sizes = runs.groupby(["architecture", "size"]).parameters_total.mean().sort_values()
    ladder = "; ".join(
        f"{name}: "
        + ", ".join(f"{size} {count:,.0f}" for size, count in rows.droplevel("architecture").items())
        for name, rows in sizes.groupby("architecture")
    )
    nested = runs[runs.corpus == report["corpus"]]
    fractions = ", ".join(
        f"{fraction:.4g} ({pixels / 1e6:.3g} Mpx)"
        for fraction, pixels in nested.groupby("fraction").unique_pixels.mean().items()
    )
    seeds = nested.groupby(["architecture", "size", "fraction"]).seed.nunique()
    return _bullets(
        {
            "What the law predicts": f"`{report['loss']}`: squared error on hidden pixels of the one validation set, "
            "standardised reflectance, final weights (no checkpoint is selected)",
            "N": f"parameters counted as `{settings['parameters']}`. {ladder}",
            "D": f"unique 10 m pixels of nested shares of {report['corpus']}: {fractions}",
            "Samples seen": f"{runs.samples_seen.min():,.0f} to {runs.samples_seen.max():,.0f} per run, whatever its "
            "corpus: D is unique data, repeated as needed",
            "Seeds": f"{seeds.min()} to {seeds.max()} per cell; a seed draws weights, masks, order and the share",
            "Tuning": "one learning rate per architecture, scaled with width, unless the study says otherwise",
            "Intervals": f"{settings['interval']:.0%}; profile likelihood (an end may be open), and "
            f"{settings['bootstrap']} resamples that keep every cell, seed {settings['seed']}",
        }
    )


def _law(entry: Report) -> list[str]:
    law, left_out = entry["law"], entry["left_out"]
    if law is None:
        return [f"No law: {entry['refusal']}"]
    reason = f" ({left_out[0]['reason']}, ...)" if left_out else ""
    identified = law["identifiability"]
    verdict = f"{law['status']}, {identified['verdict'].replace('_', ' ')}"
    facts = {
        "Law": f"`{law['equation']}`, {law['n_points']} runs, {len(left_out)} left out{reason}",
        "Verdict": "; ".join((verdict, *identified["reasons"])),
    }
    if law["status"] == "not_identified":
        return [_bullets(facts), _answers(entry["answers"])]
    facts |= {
        "Objective": f"{law['loss']['kind']}, {law['objective']:.6g}; scatter about the law {law['noise']:.2%}",
        "Optimiser": f"damped Newton from {law['starts']} starts on a grid of exponents; {law['reached']:.0%} "
        f"reached the optimum; {len(law['minima'])} other minima within 1 %",
    }
    return [_bullets(facts), _parameters(law), _answers(entry["answers"])]


def _parameters(law: Report) -> str:
    kinds = law["intervals"]
    lines = [" | ".join(["| parameter", "value", *kinds]) + " |", "|" + "---|" * (2 + len(kinds))]
    for name, value in law["params"].items():
        ends = "".join(f" {interval_text(by_name[name], '.3g')} |" for by_name in kinds.values())
        lines.append(f"| {name} | {value:.4g} |{ends}")
    return "\n".join(lines)


def _answers(answers: Report) -> str:
    facts = {f"Trend in {role}": trend["verdict"] for role, trend in answers["trend"].items()}
    for hidden in answers["held_out"]:
        runs = hidden["runs"]
        errors = ", ".join(f"{100 * run['error']:+.1f} %" for run in runs)
        inside = f"{sum(run['hit'] for run in runs)} of {len(runs)} runs inside the prediction interval"
        facts[f"`{hidden['form']}` on larger {hidden['along']} than fitted"] = (
            f"{inside}, errors {errors}" if runs else "; ".join(hidden["skipped"])
        )
    facts["Other laws"] = answers["forms"]["verdict"]
    if "lack_of_fit" in answers:
        seeds, worth = answers["seeds"], answers["data_worth_of_a_decade_of_parameters"]
        times = "unboundedly many" if worth["value"] is None else f"{worth['value']:.3g}"
        facts |= {
            "Lack of fit": answers["lack_of_fit"]["verdict"],
            "Variance": seeds if isinstance(seeds, str) else _variance(seeds),
            "Sensitivity": "; ".join(
                f"{name}: alpha {params['alpha']:.3g}, beta {params['beta']:.3g}, E {params['E']:.3g}"
                for name, params in answers["sensitivity"].items()
            ),
            "A decade of parameters is worth": f"{times} times the unique data "
            f"{interval_text((worth['low'], worth['high']), '.3g')} at N = {worth['at']['n']:.3g}, "
            f"D = {worth['at']['d']:.3g}",
        }
    return _bullets(facts)


LEVELS = {
    "row": "every run counts",
    "cell": "cells, not runs, carry the information",
    "run": "runs, not their checkpoints, carry the information",
}


def _variance(seeds: Report) -> str:
    mixed, plain = seeds["mixed"], seeds["plain"]
    errors = ", ".join(
        f"{name} {mixed[name]:.2g} ({plain[name]:.2g})" for name in ("alpha", "beta") if name in mixed
    )
    return (
        f"between seeds {seeds['sigma_seed']:.2%}, between cells beyond that {seeds['sigma_cell']:.2%}; "
        f"standard errors with the cell's share (without): {errors}; {LEVELS[seeds['level']]}"
    )


def _across(across: Report) -> str:
    shared = across["shared_exponents"]
    facts = {}
    if shared is not None:
        facts["Exponents"] = shared if isinstance(shared, str) else shared["verdict"]
    for crossing in across["crossovers"]:
        others = ", ".join(f"{role} = {value:.3g}" for role, value in crossing["held"].items())
        facts[f"{crossing['first']} (1) and {crossing['second']} (2) at {others}"] = crossing["verdict"]
    return _bullets(facts) if facts else "Fewer than two architectures have a law."


def _bullets(facts: dict[str, str]) -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in facts.items())
