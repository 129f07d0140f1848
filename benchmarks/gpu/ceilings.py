"""What the machine can do at best: copies on the device and to it, and matrix products."""

from collections.abc import Iterator

import torch
from benchmarks.gpu.check import Check, Row

HOST_BYTES = 2**28


def copy_bandwidth(check: Check) -> float:
    """Bytes a second, read and written, of a copy on the device."""
    source = torch.empty(check.sized(2**30, 2**20), dtype=torch.uint8, device=check.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / check.seconds(lambda: target.copy_(source))


def ceilings(check: Check) -> Iterator[Row]:
    """Bandwidths of copies, and rates of square matrix products by number format."""
    bandwidth = copy_bandwidth(check)
    yield Row("copy", "on the device, bytes read and written", "bandwidth", bandwidth / 1e9, "GB/s")
    if check.device == "cuda":
        for pinned in (False, True):
            host = torch.empty(HOST_BYTES, dtype=torch.uint8, pin_memory=pinned)
            part = torch.empty(HOST_BYTES, dtype=torch.uint8, device=check.device)
            seconds = check.seconds(lambda part=part, host=host: part.copy_(host, non_blocking=True))
            setting = "host to device, pinned" if pinned else "host to device, pageable"
            yield Row("copy", setting, "bandwidth", HOST_BYTES / seconds / 1e9, "GB/s")
    side = check.sized(8192, 256)
    for dtype, tf32 in ((torch.bfloat16, False), (torch.float32, True), (torch.float32, False)):
        if tf32 and check.device == "cpu":
            continue
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(side, side, dtype=dtype, device=check.device) for _ in range(2))
        seconds = check.seconds(lambda a=a, b=b: a @ b)
        torch.backends.cuda.matmul.allow_tf32 = False
        setting = "tf32" if tf32 else str(dtype).removeprefix("torch.")
        yield Row(
            "matrix product", f"{setting}, side {side}", "rate", 2 * side**3 / seconds / 1e12, "TFLOP/s"
        )
