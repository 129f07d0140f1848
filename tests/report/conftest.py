"""A small study's results, planted: losses follow a law, pretraining helps by a known amount."""

import json

import pytest

from geoladder.report.collect import collect
from geoladder.report.laws import fit_laws
from geoladder.study.analysis import Fit

BORN = {"commit": "abc", "dirty": False, "code": "c0de"}
PARAMETERS = {"xs": 10_000, "s": 40_000, "m": 160_000}
CHIPS = {"1/16": 64, "1/4": 256, "1": 1024}


def pretrain_result(size: str, fraction: str, seed: int, loss: float, corpus: str = "majortom") -> dict:
    total = PARAMETERS[size]
    return {
        "fingerprint": f"pre-{corpus}-{size}-{fraction}-{seed}",
        "spec": {"corpus": corpus, "fraction": fraction, "architecture": "unet", "size": size, "seed": seed},
        "provenance": BORN,
        "parameters": {"total": total, "encoder": total // 2, "norm": total // 100},
        "unique_pixels": CHIPS[fraction] * 1024,
        "unique_chips": CHIPS[fraction],
        "samples_seen": 512,
        "steps": 32,
        "lr": 0.01,
        "seconds": 1.5,
        "metrics": {"val_masked_mse": loss, "val_loss": loss + 0.1},
    }


def finetune_result(
    corpus: str, architecture: str, size: str, task: str, seed: int, n: int, skill: float
) -> dict:
    metrics = {"r2": skill, "rmse": 1 - skill} if task == "roads" else {"accuracy": skill, "error": 1 - skill}
    return {
        "fingerprint": f"fine-{corpus}-{architecture}-{task}-{seed}-{n}",
        "spec": {
            "corpus": corpus,
            "architecture": architecture,
            "size": size,
            "mode": "full",
            "transfer": "all",
            "task": task,
            "seed": seed,
            "n": n,
        },
        "settled": True,
        "best_step": 40,
        "provenance": BORN,
        "parameters": {"total": 5000, "encoder": 4000, "norm": 100},
        "samples_seen": 1600,
        "metrics": metrics,
        "intervals": {name: [value - 0.3, value + 0.1] for name, value in metrics.items()},
        "by_bucket": {"japan": metrics},
        "details": {"all": {"by_class": {"tree": {"iou": 0.4}}}} if task == "landcover" else {},
    }


def trivial_result(task: str, seed: int, sizes: tuple[int, ...]) -> dict:
    """Per-pixel models stand still, so that curves pass them as n grows; one of them never is."""
    skills = {"zero": -0.1, "mean": -0.01, "linear": 0.15, "boosted": 0.02}
    names = ("r2", "rmse") if task == "roads" else ("accuracy", "error")
    metrics = {}
    for predictor, skill in skills.items():
        metrics |= {f"{predictor}_{names[0]}": skill, f"{predictor}_{names[1]}": 1 - skill}
    return {
        "fingerprint": f"trivial-{task}-{seed}",
        "spec": {"task": task, "seed": seed},
        "provenance": BORN,
        "points": [{"n": n, "metrics": metrics, "by_bucket": {"japan": metrics}} for n in sizes],
    }


def law(size: str, fraction: str) -> float:
    return 0.02 + 2 * PARAMETERS[size] ** -0.4 + 5 * (CHIPS[fraction] * 1024) ** -0.4


@pytest.fixture
def results(tmp_path):
    """Writes result files and their ledger; returns (root, ledger path). Change `files` and call `write`."""
    files: dict[str, dict] = {}
    for size in PARAMETERS:
        for fraction in CHIPS:
            for seed in (0, 1):
                slug = "majortom" if fraction == "1" else f"majortom@{fraction.replace('/', '-')}"
                files[f"results/pretrain/{slug}/unet-{size}/seed{seed}/metrics.json"] = pretrain_result(
                    size, fraction, seed, law(size, fraction) * (1 + 0.001 * seed)
                )
    files["results/pretrain/globe/unet-s/seed0/metrics.json"] = pretrain_result("s", "1", 0, 0.3, "globe")
    for task in ("roads", "landcover"):
        for seed in (0, 1, 2):
            for n in (4, 16, 64, 256):
                base = 0.1 * n**0.2 + 0.01 * seed
                for corpus, architecture, size, skill in (
                    ("scratch", "unet", "s", base),
                    ("majortom", "unet", "s", base + 0.05),
                    ("scratch", "pixel", "mlp", base - 0.08),
                ):
                    if n == 256 and corpus == "majortom":
                        continue
                    stage = "gates" if n == 256 else "finetune"
                    name = f"results/{stage}/{corpus}/{architecture}-{size}/{task}/seed{seed}/n{n}.json"
                    files[name] = finetune_result(corpus, architecture, size, task, seed, n, skill)
            files[f"results/trivial/{task}/seed{seed}.json"] = trivial_result(task, seed, (4, 16, 64, 256))
    return write(tmp_path, files)


@pytest.fixture
def table(results):
    root, ledger = results
    collect(ledger, root / "results.csv", root)
    return root / "results.csv"


@pytest.fixture
def laws(table):
    out = table.with_name("laws.json")
    fit_laws(table, Fit(bootstrap=50), "majortom", out)
    return out


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    ledger = root / "results/ledger.json"
    ledger.write_text(json.dumps({name: content["fingerprint"] for name, content in files.items()}))
    return root, ledger
