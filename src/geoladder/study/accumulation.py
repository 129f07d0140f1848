"""One optimiser step in pieces: devices x micro_batch x accumulation = batch, and nothing else.

Imports no torch, since a study is checked before anything is computed.
"""

from geoladder.errors import GeoladderError


def accumulation(batch: int, devices: int, micro_batch: int | None) -> int:
    """Forward and backward passes of one device in one optimiser step.

    Args:
        batch: samples per optimiser step, over all devices (`pretrain.batch`).
        devices: that share a batch (`compute.devices`).
        micro_batch: samples in one pass of one device (`compute.micro_batch`); None: the device's whole share.

    Raises:
        GeoladderError: the three do not multiply to the batch; the message says what does.
    """
    share, left = divmod(batch, devices)
    if left:
        fitting = ", ".join(map(str, divisors(batch)))
        raise GeoladderError(
            f"a batch of {batch} samples cannot be shared evenly by {devices} devices; pretrain.batch must be "
            f"compute.devices x compute.micro_batch x a whole number: use one of {fitting} devices, or make "
            f"pretrain.batch a multiple of {devices}"
        )
    passes, left = divmod(share, micro_batch or share)
    if left or not passes:
        fitting = ", ".join(map(str, divisors(share)))
        raise GeoladderError(
            f"compute.micro_batch {micro_batch} does not divide the {share} samples that each of {devices} devices "
            f"has of a batch of {batch}; use one of {fitting}"
        )
    return passes


def divisors(number: int) -> list[int]:
    """All divisors, smallest first."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
