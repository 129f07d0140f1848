"""What an edit of the study makes run again, on the real graph."""

import csv
import json
import shutil

import pytest

ANALYSIS = {"collect", "laws", "gates", "figure-scaling"}


def test_the_figure_its_numbers_and_every_result_are_there(project):
    for suffix in ("pdf", "png", "csv"):
        assert (project.folder / f"results/figures/scaling.{suffix}").stat().st_size > 1000
    with (project.folder / "results/results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["stage"] for row in rows} == {"pretrain", "finetune", "gates", "linear", "trivial"}
    ledger = json.loads((project.folder / "results/ledger.json").read_text())
    assert {row["fingerprint"] for row in rows} == set(ledger.values())


def test_a_second_run_does_nothing(project):
    assert project.planned() == {}


def test_a_comment_reruns_nothing(project):
    project.write(comment="# a remark\n")
    assert project.planned() == {}


def test_the_order_of_keys_reruns_nothing(project):
    project.study = dict(reversed(project.study.items()))
    project.write()
    assert project.planned() == {}


def test_one_rungs_learning_rate_reruns_its_cells_and_what_follows(project):
    project.study["pretrain"]["rungs"] = {"unet-xs": {"lr": 0.003}}
    project.write()
    planned = project.planned()
    assert set(planned) == {"pretrain", "finetune", "linear"} | ANALYSIS
    assert len(planned["pretrain"]) == len(planned["linear"]) == 2
    assert all("/unet-xs/" in log for log in planned["pretrain"])
    assert all(log.startswith("logs/finetune/majortom/unet-xs/") for log in planned["finetune"])
    assert len(planned["finetune"]) == 2 * 2


def test_a_rung_nobody_starts_from_reruns_alone(project):
    project.study["pretrain"]["rungs"] = {"unet-s": {"lr": 0.003}}
    project.write()
    planned = project.planned()
    assert set(planned) == {"pretrain", "linear"} | ANALYSIS
    assert all("/unet-s/" in log for log in planned["pretrain"] + planned["linear"])


def test_a_new_n_runs_only_itself(project):
    project.study["finetune"]["n"].append(4)
    project.write()
    planned = project.planned()
    # Linear heads have every n of 1, 4 and 32 that fine-tuning reaches; one order of subsets serves every n.
    assert set(planned) == {"finetune", "trivial", "linear"} | ANALYSIS
    # Linear heads and baselines have one job for every n; others run only the new one.
    assert all(log.endswith("/n4.log") for log in planned["finetune"])


def test_a_new_seed_runs_only_itself(project):
    project.study["pretrain"]["grid"][0]["seeds"] = [0, 1]
    project.study["finetune"]["seeds"] = [0, 1]
    project.write()
    planned = project.planned()
    assert (
        set(planned) == {"pretrain", "finetune", "trivial", "linear"} | ANALYSIS
    )  # its subsets are linear draws
    runs = planned["pretrain"] + planned["finetune"] + planned["trivial"] + planned["linear"]
    assert all("/seed1" in log for log in runs)


def test_another_task_draws_and_runs_only_itself(project):
    project.study["finetune"]["tasks"].append("buildings")
    project.write()
    planned = project.planned()
    assert set(planned) == {"split", "finetune", "trivial", "linear"} | ANALYSIS
    runs = planned["split"] + planned["finetune"] + planned["trivial"]
    assert all("/buildings/" in log for log in runs)
    assert sorted(planned["split"]) == [f"logs/split/buildings/seed{draw}.log" for draw in (0, 1)]


def test_subsets_drawn_otherwise_rerun_what_reads_them_and_no_pretraining(project):
    project.study["bench"]["protocol"] = "philEO"
    project.write()
    planned = project.planned()
    assert set(planned) == {"split", "finetune", "trivial", "linear"} | ANALYSIS
    assert sorted(planned["split"]) == [f"logs/split/{task}/philEO.log" for task in ("landcover", "roads")]


@pytest.mark.slow
def test_a_run_refuses_subsets_that_are_not_its_own(project):
    """Where Snakemake's memory of the file is lost, the run still looks at its fingerprint."""
    project.study["bench"]["validation"] = "adjacent"
    project.write()
    assert "split" in project.planned()
    done = project.run("--touch", target="results/splits/roads/seed0.parquet")
    assert done.returncode == 0, done.stderr
    target = "results/trivial/roads/seed0.json"
    done = project.run("--rerun-triggers", "mtime", "--force", target=target)
    assert done.returncode == 1
    assert "does not hold the subset of roads, n = 1" in done.stdout + done.stderr


def test_a_plot_option_reruns_one_job(project):
    project.study["figures"] = {"font_pt": 8}
    project.write()
    assert set(project.planned()) == {"figure-scaling"}


def test_a_number_of_threads_or_gpus_reruns_nothing(project):
    project.study["compute"] = {"threads": 2, "devices": 4, "strategy": "ddp"}
    project.write()
    assert project.planned() == {}


def test_stale_results_are_refused_when_snakemakes_memory_is_lost(project):
    """Without .snakemake/ Snakemake takes old results for current ones; the ledger does not."""
    shutil.rmtree(project.folder / ".snakemake")
    project.study["pretrain"]["rungs"] = {"unet-s": {"lr": 0.003}}
    project.write()
    done = project.run()
    assert done.returncode == 1
    message = done.stdout + done.stderr
    assert "--forcerun" in message
    assert "results/pretrain/majortom/unet-s/seed0/metrics.json" in message


def test_a_misspelt_key_stops_before_anything_runs(project):
    project.study["pretrain"]["sampels"] = 3
    project.write()
    done = project.run("--dry-run")
    assert done.returncode == 1
    assert "did you mean 'samples'" in done.stdout + done.stderr


def test_an_n_above_the_pool_says_how_many_there_are(project):
    project.study["finetune"]["n"] = [100000]
    project.write()
    done = project.run()
    assert done.returncode == 1
    message = done.stdout + done.stderr
    assert "100000" in message
    assert "pool" in message


@pytest.mark.slow
def test_a_sweep_adds_its_own_runs_and_reruns_nothing(project):
    rung = {"corpus": "majortom", "architectures": ["unet"], "sizes": ["xs"], "factors": [0.5, 1, 2]}
    project.study["sweep"] = rung
    project.write()
    assert project.planned() == {}
    target = "results/figures/lr.pdf"
    assert len(project.planned(target)["pretrain"]) == 3
    done = project.run(target=target)
    assert done.returncode == 0, done.stdout + done.stderr
    with (project.folder / "results/tables/lr.csv").open() as handle:
        assert [row["size"] for row in csv.DictReader(handle)] == ["xs"]
    assert project.planned(target) == {}
