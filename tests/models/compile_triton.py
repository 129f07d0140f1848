"""Compile every Triton kernel to machine code for a compute capability (80, 90, ...); prints the name of each."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from geoladder.models import causal_conv_triton, scan_triton, wavefront_triton

HALF = {"u", "delta", "b", "c", "y", "gy", "gu", "gdelta", "top", "left", "gtop", "gleft", "x", "gx"}
NUMBERS = {"batch", "sequences", "length", "height", "width", "channels", "order"}
SCAN = dict(CHUNK=16, SPAN=8, STATES=4, BLOCK=32, SOFTPLUS=True)
KERNELS = [
    ("scan", scan_triton, SCAN | dict(ORDERED=False)),
    ("cross", scan_triton, SCAN | dict(ORDERED=True)),
    ("wavefront", wavefront_triton, dict(CHUNK=16, STATES=4, BLOCK=32, SOFTPLUS=True)),
    ("convolution", causal_conv_triton, dict(K=4, SILU=True, TOKENS=32, CHANNELS=64)),
]


def type_of(name, sizes):
    if name in sizes:
        return "constexpr"
    if name in NUMBERS:
        return "i32"
    return {"places": "*i32"}.get(name, "*bf16" if name in HALF else "*fp32")


for label, module, sizes in KERNELS:
    for kernel in (module._forward, module._backward):
        signature = {name: type_of(name, sizes) for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
        binary = triton.compile(
            source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_warps": 1}
        )
        assert binary.asm["cubin"]
        print(label, flush=True)  # noqa: T201
