"""From raw archives to arrays.

What enters: a MajorTOM Core-S2L2A archive (parquet) or PhilEO Bench (npy). What leaves: an index of usable tiles with
a ledger of dropped ones, chips of stored digital numbers (DN), band statistics, training targets, and few-shot draws
from the bench. DN become reflectance in one place only, `geoladder.data.batches.batch.to_reflectance`.

Nothing here imports `geoladder.models` (but for the types in `geoladder.study.specs`) or `geoladder.training`.
"""
