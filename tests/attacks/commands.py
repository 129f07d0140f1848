"""Commands that several modules attack, on inputs of the same names."""

from geoladder.study.specs import IndexSpec

INDEX_SPEC = IndexSpec(
    archive="a",
    bench="b",
    one_product_per_cell=True,
    max_cloud_percent=80.0,
    max_nodata_share=0.99,
    max_corrupt_share=0.5,
    harmonise="baseline",
    validation_share=0.15,
    bench_buffer_km=0.0,
    exclude_bench="none",
)
BENCH_INDEX = ["bench-index", "--bench", "bench", "--out", "out.parquet"]


def index_command(**changes):
    """`geoladder index` of the folder `archive`, with another spec."""
    spec = INDEX_SPEC.model_validate(INDEX_SPEC.model_dump() | changes)
    return [
        *("index", "--archive", "archive", "--bench-index", "none.parquet", "--spec", spec.canonical()),
        *("--out", "out.parquet", "--ledger", "out.csv"),
    ]
