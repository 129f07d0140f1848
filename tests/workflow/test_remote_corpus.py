"""The real graph over a remote archive: planned, fetched by several jobs, indexed, and nothing of it twice."""

import pandas as pd
import pytest

MANIFEST = "data/majortom/chips/manifest.parquet"


@pytest.fixture
def remote(project, site, tmp_path):
    """A study whose corpus is on a server, which has what the finished study made."""
    archive = project.folder / "data/majortom/archive"
    for path in archive.rglob("*.parquet"):
        site.files[str(path.relative_to(archive))] = path.read_bytes()
    archive.rename(tmp_path / "original")
    project.study["corpora"]["majortom"] = {
        "source": "majortom",
        "url": site.url,
        "select": {"fraction": "1/2"},
    }
    project.study["compute"] = {"fetch_jobs": 2, "connections": 1}
    project.write()
    return project


def test_a_remote_corpus_is_fetched_and_cut(remote, site, tmp_path):
    done = remote.run(target=MANIFEST)
    assert done.returncode == 0, done.stdout + done.stderr
    there = pd.read_parquet(tmp_path / "original/metadata.parquet")
    here = pd.read_parquet(remote.folder / "data/majortom/archive/metadata.parquet")
    assert here["grid_cell"].nunique() == there["grid_cell"].nunique() // 2
    ledger = pd.read_csv(remote.folder / "data/majortom/ledger.csv")
    # The fraction was drawn from the whole archive; the index does not draw it again.
    assert len(ledger) == len(here) and "outside the fraction" not in set(ledger["reason"])
    assert remote.planned(MANIFEST) == {}
    site.log.clear()
    remote.study["compute"]["connections"] = 2
    remote.write()
    assert remote.planned(MANIFEST) == {} and site.log == []
    remote.study["corpora"]["majortom"]["select"]["fraction"] = "3/4"
    remote.write()
    verbs = remote.planned(MANIFEST)
    assert len(verbs["fetch"]) == 4 and {"index", "chips"} <= set(verbs)
