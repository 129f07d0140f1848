"""The compiled scan and the chunked one against the plain loop: values, all gradients, any shape, any strides."""

import logging
import subprocess
import sys
import types
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from geoladder.errors import GeoladderError
from geoladder.models import scan, scan_numba
from geoladder.models import scan_op as scan_op_module
from geoladder.models.scan import choose_backend, cross_scan, reading_orders, selective_scan, warm_up
from geoladder.models.scan_op import scan_op

numba = partial(selective_scan, backend="numba")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def example(batch, channels, length, order, dtype=torch.float64, seed=0, size=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return [
        normal(batch, channels, length),
        size * normal(batch, channels, length).abs(),
        -normal(channels, order).abs(),
        normal(batch, order, length),
        normal(batch, order, length),
        normal(channels),
    ]


def reference(u, delta, a, b, c, skip):
    """One token at a time."""
    h = u.new_zeros(u.shape[0], u.shape[1], a.shape[1])
    outputs = []
    for u_t, delta_t, b_t, c_t in zip(*(tensor.unbind(-1) for tensor in (u, delta, b, c)), strict=True):
        h = torch.exp(delta_t[..., None] * a) * h + (delta_t * u_t)[..., None] * b_t[:, None]
        outputs.append((h * c_t[:, None]).sum(-1))
    return torch.stack(outputs, -1) + u * skip[:, None]


def values_and_gradients(inputs, scan):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    y = scan(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin()
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


def cross_example(batch, channels, rows, columns, order, dtype=torch.float64, seed=0):
    """Inputs of `cross_scan` in all four orders of a grid."""
    generator = torch.Generator().manual_seed(seed)
    length = rows * columns

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return [
        normal(batch, length, channels), normal(4, batch, length, channels), -normal(4, channels, order).abs(),
        normal(4, batch, length, order), normal(4, batch, length, order), normal(4, channels),
        torch.tensor(reading_orders(rows, columns)),
    ]  # fmt: skip


def one_by_one(u, delta, a, b, c, skip, orders):
    """The plain loop over the tokens of each order."""
    y = torch.zeros_like(u)
    for step, rates, b_k, c_k, skip_k, order in zip(delta, a, b, c, skip, orders, strict=True):
        read, step, b_k, c_k = (tensor[:, order].mT for tensor in (u, functional.softplus(step), b_k, c_k))
        y = y + reference(read, step, rates, b_k, c_k, skip_k).mT[:, order.argsort()]
    return y


def assert_same(inputs, backend):
    expected = values_and_gradients([tensor.double() for tensor in inputs], reference)
    scan = partial(selective_scan, backend=backend)
    for got, want in zip(values_and_gradients(inputs, scan), expected, strict=True):
        limit = TOLERANCE[inputs[0].dtype] * (1 + want.abs().max())
        assert got.dtype == inputs[0].dtype
        assert (got - want).abs().max() <= limit


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 33, 16, 8), (2, 70, 37, 3), (3, 32, 130, 16)])
def test_equals_reference(shape, dtype, backend):
    assert_same(example(*shape, dtype=dtype), backend)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9),
    st.sampled_from([torch.float32, torch.float64]), st.floats(0.01, 30.0), st.integers(0, 10**6),
)  # fmt: skip
def test_equals_reference_for_any_shape_and_step(batch, channels, length, order, dtype, size, seed):
    assert_same(example(batch, channels, length, order, dtype, seed, size), "numba")


def test_gradcheck():
    leaves = [tensor.requires_grad_() for tensor in example(2, 3, 18, 2)]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, backend="numba"), leaves)


def operands(example, groups=1):
    """Inputs of the operator: tokens second, groups first."""
    u, delta, a, b, c, skip = (tensor.float() for tensor in example)
    tokens = [tensor.mT.expand(groups, *tensor.mT.shape).contiguous() for tensor in (delta, b, c)]
    a, skip = a.expand(groups, *a.shape).contiguous(), skip.expand(groups, *skip.shape).contiguous()
    return [u.mT.contiguous(), tokens[0], a, *tokens[1:], skip]


@pytest.mark.parametrize("groups", [1, 2])
def test_operator_is_registered_soundly(groups):
    inputs = [tensor.requires_grad_() for tensor in operands(example(2, 5, 7, 3), groups)]
    places = torch.stack([torch.randperm(7) for _ in range(groups)]).int() if groups > 1 else None
    torch.library.opcheck(scan_op, [*inputs, places, True, "numba"])


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_any_strides(backend):
    u, delta, a, b, c, skip = example(2, 6, 9, 4)
    odd = [
        u.mT.contiguous().mT,
        delta.repeat(1, 2, 1)[:, ::2],
        a.T.contiguous().T,
        b.flip(1),
        c[:1].expand(2, 4, 9),
    ]
    odd[1] = delta.repeat_interleave(2, 1)[:, ::2]
    assert_same([*odd, skip[:1].expand(6)], backend)


def test_zero_decay_sums_and_huge_steps_forget():
    ones = torch.ones(1, 1, 5)
    summed = selective_scan(ones, ones, torch.zeros(1, 1), ones, ones, torch.zeros(1), backend="numba")
    assert summed.flatten().tolist() == [1, 2, 3, 4, 5]
    forgotten = selective_scan(
        ones, 100 * ones, -torch.ones(1, 1), ones, ones, torch.zeros(1), backend="numba"
    )
    assert torch.allclose(forgotten, 100 * ones)


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4, 5])
def test_a_nan_is_seen(which):
    inputs = example(1, 2, 3, 2, torch.float32)
    inputs[which].view(-1)[0] = float("nan")
    assert selective_scan(*inputs, backend="numba").isnan().any()


def test_no_gradient_wanted_and_some_wanted():
    inputs = example(2, 3, 5, 2)
    assert not selective_scan(*inputs, backend="numba").requires_grad
    inputs[2].requires_grad_()
    selective_scan(*inputs, backend="numba").sum().backward()
    assert inputs[2].grad is not None


def test_half_precision_is_computed_in_float32():
    inputs = example(2, 8, 20, 4, torch.float32)
    rounded = [tensor.bfloat16() for tensor in inputs]
    want = selective_scan(*(tensor.float() for tensor in rounded), backend="numba").bfloat16()
    got = selective_scan(*rounded, backend="numba")
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want)


def test_meta_tensors_have_the_right_shape():
    inputs = [tensor.to("meta") for tensor in example(2, 6, 9, 4)]
    assert selective_scan(*inputs).shape == (2, 6, 9)


def test_an_empty_batch_has_empty_results():
    u, delta, a, b, c, skip = example(1, 3, 4, 2)
    y, *gradients = values_and_gradients([u[:0], delta[:0], a, b[:0], c[:0], skip], numba)
    assert y.shape == gradients[0].shape == (0, 3, 4)
    assert not gradients[2].any()


def test_bits_do_not_change_from_run_to_run():
    inputs = example(3, 40, 33, 8, torch.float32)
    first, second = (values_and_gradients(inputs, numba) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def shared_out(monkeypatch):
    """Any work is enough for several threads; returns the numbers of threads that were used."""
    monkeypatch.setattr(scan_numba, "PARALLEL", 1)
    used, pool = [], scan_numba._pool
    monkeypatch.setattr(
        scan_numba, "_pool", lambda process, threads: used.append(threads) or pool(process, threads)
    )
    before = torch.get_num_threads()
    yield used
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_share_a_batch_and_change_no_bit(shared_out, dtype):
    inputs = example(5, 40, 33, 8, dtype)
    torch.set_num_threads(1)
    alone = values_and_gradients(inputs, numba)
    assert shared_out == []
    for threads in (2, 3, 8):
        torch.set_num_threads(threads)
        together = values_and_gradients(inputs, numba)
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert shared_out == [2, 2, 3, 3, 5, 5]  # forward and backward; never more threads than batch items


def test_little_work_takes_one_thread(shared_out, monkeypatch):
    monkeypatch.setattr(scan_numba, "PARALLEL", 2 * 3 * 16 * 4)  # elements, in whole chunks of tokens
    torch.set_num_threads(2)
    inputs = example(2, 3, 5, 4)
    selective_scan(*inputs, backend="numba")
    assert shared_out == [2]
    monkeypatch.setattr(scan_numba, "PARALLEL", 2 * 3 * 16 * 4 + 1)
    selective_scan(*inputs, backend="numba")
    assert shared_out == [2]


FORK = """
import os, signal, torch
from geoladder.models import scan_numba
from geoladder.models.scan import selective_scan
scan_numba.PARALLEL = 1
torch.set_num_threads(2)
ones = torch.ones(2, 1, 3)
def run():
    return selective_scan(ones, ones, -torch.ones(1, 1), ones, ones, torch.ones(1), backend="numba")
before = run()
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that waits for threads it has not got would wait for ever
    os._exit(0 if torch.equal(run(), before) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_threads_too():
    subprocess.run([sys.executable, "-c", FORK], check=True)


def test_kept_states_take_the_memory_of_one_input():
    u, *rest = operands(example(2, 32, 64, 16))
    _y, states = scan_op(u, *rest, None, False, "numba")
    assert states.numel() == u.numel()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_are_counted(device):
    inputs = [tensor.to(device).requires_grad_() for tensor in example(2, 6, 9, 4)]
    with FlopCounterMode(display=False) as counter:
        selective_scan(*inputs).sum().backward()
    assert counter.get_total_flops() == 2 * 6 * 9 * ((9 * 4 + 2) + (20 * 4 + 8))


def test_bad_input_is_named():
    u, delta, a, b, c, skip = example(2, 3, 4, 2)
    with pytest.raises(GeoladderError, match=r"\(2, 2, 3\)"):
        selective_scan(u, delta, a, b[..., :3], c, skip)
    with pytest.raises(GeoladderError, match="L at least 1"):
        selective_scan(u[..., :0], delta[..., :0], a, b[..., :0], c[..., :0], skip)
    with pytest.raises(GeoladderError, match="'cuda' is unknown; use auto, mamba_ssm, triton, numba"):
        selective_scan(u, delta, a, b, c, skip, backend="cuda")


def test_fused_backend_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    with pytest.raises(GeoladderError, match="install mamba-ssm"):
        selective_scan(*example(1, 2, 3, 2), backend="mamba_ssm")


@pytest.fixture
def fresh_choice():
    scan.chosen.cache_clear()
    yield
    scan.chosen.cache_clear()


@pytest.fixture
def broken_package(tmp_path, monkeypatch):
    """Let `import name` raise whatever is written."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, failure):
        for module in [key for key in sys.modules if key.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.delitem(sys.modules, "geoladder.models.scan_triton", raising=False)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {failure}")

    return write


@pytest.mark.usefixtures("fresh_choice")
def test_choice_is_logged_once_with_its_reason(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(scan, "warm_up", lambda *_: None)
    assert [choose_backend(device).name for device in ("cpu", "cpu", "cuda")] == ["numba", "numba", "triton"]
    assert [record.getMessage() for record in caplog.records] == [
        "selective scan by numba (tensors are on cpu)",
        "selective scan by triton (a GPU; mamba_ssm is not installed)",
    ]


@pytest.mark.usefixtures("fresh_choice")
def test_fused_kernel_is_chosen_where_it_imports(monkeypatch):
    monkeypatch.setattr(scan, "warm_up", lambda *_: None)
    names = ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert choose_backend("cuda").name == "triton"  # installed, but broken: no kernel in it
    scan.chosen.cache_clear()
    sys.modules[names[-1]].selective_scan_fn = lambda *inputs, delta_softplus: reference(*inputs)
    assert str(choose_backend("cuda")) == "mamba_ssm (a GPU)"
    inputs = example(1, 2, 3, 2)
    assert torch.allclose(selective_scan(*inputs, backend="mamba_ssm"), reference(*inputs))


@pytest.mark.usefixtures("fresh_choice")
@pytest.mark.parametrize(
    "failure", ["OSError('libcudart.so.12: cannot open')", "RuntimeError('driver too old')"]
)
def test_packages_that_fail_on_import_in_any_way_are_left_alone(failure, broken_package, caplog):
    for name in ("mamba_ssm", "triton"):
        broken_package(name, failure)
    with caplog.at_level("INFO", logger="geoladder"):
        backend = choose_backend("cuda")
    assert backend.name == "torch"
    reason = failure.replace("('", ": ").removesuffix("')")
    assert f"mamba_ssm does not work: {reason}; triton does not work" in backend.reason
    assert len(caplog.records) == 1
    with pytest.raises(
        GeoladderError, match=r"cannot be imported \(.*install mamba-ssm, or use auto or torch"
    ):
        selective_scan(*example(1, 2, 3, 2), backend="mamba_ssm")


def test_a_missing_triton_is_named_where_it_is_asked_for(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'triton'", name="triton")

    monkeypatch.setattr(scan_op_module, "_load_triton", missing)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(GeoladderError, match=r"triton cannot be imported .*install the triton that torch"):
        selective_scan(*example(1, 2, 3, 2), backend="triton")


def test_triton_wants_a_gpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(GeoladderError, match="runs on a GPU, but the tensors are on cpu"):
        selective_scan(*example(1, 2, 3, 2), backend="triton")


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_softplus_within_the_scan_is_a_softplus_before_it(backend):
    u, raw, *rest = example(2, 5, 19, 3)
    raw = raw - 8
    want = values_and_gradients(
        [u, raw, *rest], lambda u, raw, *x: reference(u, functional.softplus(raw), *x)
    )
    got = values_and_gradients([u, raw, *rest], partial(selective_scan, backend=backend, softplus=True))
    assert all(torch.allclose(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_cross_scan_is_a_scan_by_order(backend):
    cross = cross_example(2, 5, 3, 4, 3)
    got = values_and_gradients(cross[:-1], lambda *x: cross_scan(*x, cross[-1], backend=backend))
    want = values_and_gradients(cross[:-1], lambda *x: one_by_one(*x, cross[-1]))
    assert all(torch.allclose(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="mamba-ssm runs on a CUDA GPU alone, and none is here"
)
def test_mamba_ssm_equals_the_loop():
    pytest.importorskip(
        "mamba_ssm", reason="mamba-ssm is not installed, see docs/gpu.md", exc_type=ImportError
    )
    inputs = [tensor.float().cuda() for tensor in example(2, 16, 37, 8)]
    want = values_and_gradients([tensor.double() for tensor in inputs], reference)
    got = values_and_gradients(inputs, partial(selective_scan, backend="mamba_ssm"))
    assert all(
        torch.allclose(one.double(), other, rtol=1e-3, atol=1e-3)
        for one, other in zip(got, want, strict=True)
    )


def test_warm_up_leaves_nothing_behind():
    state = torch.get_rng_state()
    with torch.no_grad():
        warm_up()
    assert torch.equal(state, torch.get_rng_state())
