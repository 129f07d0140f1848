"""Layouts of the authors' code by the shipped maps of names, against what their layers do; the parity table.

Their code is not at hand here: what it computes is written out from its description (docs/ladder.md), in float64, by
other means than our models use, from weights made here under their names and in their layouts.
"""

import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.rs3mamba import AuthorsRS3Mamba
from geoladder.models.tokens import position_code
from geoladder.models.unetformer import WINDOW
from geoladder.models.vit import PAPER_TEMPERATURE, AuthorsViTUPerNet
from geoladder.training.name_map import read_map, rename

LADDER = Path(__file__).parents[2] / "docs/ladder.md"
VIT = dict(width=16, depth=4, heads=2, patch=4, taps=[0, 1, 2, 3])
RS3 = dict(width=12, depths=[1, 1, 2, 1], resnet=[1, 1, 1, 1], heads=4, decoder=64, latent=12, image_px=64)


def weights_of(shapes):
    """Float64 weights of these shapes, nothing at its start; biases, norms and running statistics count, too."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        fan_in = max(1, values[0].numel()) if len(shape) > 1 else 1
        is_positive = name.endswith(("running_var", ".weights"))
        weights[name] = values.abs() + 0.5 if is_positive else values / fan_in**0.5
    return weights


class Theirs:
    """Layers of the authors' models by their names, by other means than torch's modules.

    Notes the shapes they ask for. Without weights there are ones, so that a first pass says what weights a model has.
    """

    def __init__(self, weights=None):
        self.weights, self.shapes = weights, {}

    def __call__(self, name, *shape):
        self.shapes[name] = shape
        return torch.ones(shape, dtype=torch.float64) if self.weights is None else self.weights[name]

    def linear(self, name, x, outputs, bias=True):
        y = x @ self(f"{name}.weight", outputs, x.shape[-1]).T
        return y + self(f"{name}.bias", outputs) if bias else y

    def layer_norm(self, name, x, dims=1, eps=1e-5):
        last, shape = tuple(range(-dims, 0)), x.shape[-dims:]
        centred = x - x.mean(last, keepdim=True)
        spread = (centred.square().mean(last, keepdim=True) + eps).sqrt()
        return centred / spread * self(f"{name}.weight", *shape) + self(f"{name}.bias", *shape)

    def batch_norm(self, name, x):
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self(f"{name}.{part}", x.shape[1])[:, None, None] for part in parts)
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def conv(self, name, x, outputs, kernel, bias=False, **how):
        depth = 1 if how.get("groups") else x.shape[1]
        weight = self(f"{name}.weight", outputs, depth, kernel, kernel)
        how = {"padding": (kernel - 1) // 2} | how
        return functional.conv2d(x, weight, self(f"{name}.bias", outputs) if bias else None, **how)

    def conv_norm(self, name, x, outputs, kernel, parts=("0", "1"), **how):
        return self.batch_norm(
            f"{name}.{parts[1]}", self.conv(f"{name}.{parts[0]}", x, outputs, kernel, **how)
        )

    def double(self, name, x):
        """A transposed convolution whose stride is its kernel: each pixel becomes 2 x 2."""
        half = x.shape[1] // 2
        y = torch.einsum("bihw,iokl->bohkwl", x, self(f"{name}.weight", x.shape[1], half, 2, 2))
        return y.flatten(4, 5).flatten(2, 3) + self(f"{name}.bias", half)[:, None, None]


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def grow(x, size):
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def their_stem(t, x):
    """Two convolutions with norms over the whole map, squeeze and excitation, a residual with learned scales."""
    y = functional.leaky_relu(t.layer_norm("stem.norm1", t.conv("stem.conv1", x, 10, 1), dims=3))
    padded = functional.pad(y, (1, 1, 1, 1), "replicate")
    y = functional.leaky_relu(
        t.layer_norm("stem.norm2", t.conv("stem.conv2", padded, 10, 3, padding=0), dims=3)
    )
    y = t.conv("stem.conv3", y, 10, 1, bias=True)
    squeezed = gelu(t.linear("stem.squeeze.excitation.0", y.mean((2, 3)), 1, bias=False))
    y = y * torch.sigmoid(t.linear("stem.squeeze.excitation.2", squeezed, 10, bias=False))[..., None, None]
    scaled = [
        grid * t(f"stem.scaler.{branch}_skipscale", 1, 10, 1, 1)
        + t(f"stem.scaler.{branch}_skipbias", 1, 10, 1, 1)
        for branch, grid in (("x", y), ("y", x))
    ]
    return functional.leaky_relu(sum(scaled))


def their_vit_upernet(t, x, width, depth, heads, patch, taps, latent, has_stem, eps=1e-5, normed_taps=False):
    """Dense features and summary; attention as a matrix of all pairs."""
    x = their_stem(t, x) if has_stem else x
    rows, v = x.shape[2] // patch, "vit_encoder.vit_encoder"
    pixels = functional.unfold(x, patch, stride=patch).mT
    kernel = t(f"{v}.patch_embed.proj.weight", width, 10, patch, patch).flatten(1)
    tokens = pixels @ kernel.T + t(f"{v}.patch_embed.proj.bias", width)
    cls = t(f"{v}.cls_token", 1, 1, width).expand(len(x), 1, -1)
    tokens, maps = torch.cat([cls, tokens], 1) + t(f"{v}.pos_embed", 1, rows**2 + 1, width), []
    for number in range(depth):
        block = f"{v}.blocks.{number}"
        qkv = t.linear(f"{block}.attn.qkv", t.layer_norm(f"{block}.norm1", tokens, eps=eps), 3 * width)
        q, k, values = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
        attention = (q @ k.mT / (width // heads) ** 0.5).softmax(-1)
        tokens = tokens + t.linear(
            f"{block}.attn.proj", (attention @ values).transpose(1, 2).flatten(2), width
        )
        wide = t.linear(f"{block}.mlp.fc1", t.layer_norm(f"{block}.norm2", tokens, eps=eps), 4 * width)
        tokens = tokens + t.linear(f"{block}.mlp.fc2", gelu(wide), width)
        tokens = t.layer_norm(f"{v}.norm", tokens, eps=eps) if number == depth - 1 else tokens
        if number in taps:
            maps.append(tokens[:, 1:].mT.unflatten(2, (rows, rows)))
    return their_upernet(t, maps, normed_taps), t.linear("vit_encoder.linear_proj", tokens[:, 0], latent)


def their_upernet(t, maps, normed_taps):
    relu = functional.relu
    first = t.double("fpn1.3", relu(t.batch_norm("fpn1.1", t.double("fpn1.0", maps[0]))))
    maps[0] = relu(t.batch_norm("fpn1.4", first)) if normed_taps else first
    maps[1] = relu(t.batch_norm("fpn2.1", t.double("fpn2.0", maps[1])))
    maps[2] = relu(t.batch_norm("fpn3.0", maps[2])) if normed_taps else maps[2]
    coarse = functional.max_pool2d(maps[3], 2)

    def module(name, grid, kernel):
        return relu(t.conv_norm(f"decoder_upernet.{name}", grid, 256, kernel, ("conv", "bn")))

    pooled = [
        grow(
            module(f"psp_modules.{number}.1", functional.adaptive_avg_pool2d(coarse, bins), 1),
            coarse.shape[2:],
        )
        for number, bins in enumerate((1, 2, 3, 6))
    ]
    levels = [module("bottleneck", torch.cat([coarse, *pooled], 1), 3)]
    for number in (2, 1, 0):
        lateral = module(f"lateral_convs.{number}", maps[number], 1)
        levels.insert(0, lateral + grow(levels[0], lateral.shape[2:]))
    smooth = [module(f"fpn_convs.{number}", levels[number], 3) for number in range(3)]
    size = smooth[0].shape[2:]
    return module("fpn_bottleneck", torch.cat([grow(level, size) for level in (*smooth, levels[3])], 1), 3)


def their_bottleneck(t, name, x, inner, stride, matched):
    relu = functional.relu
    y = relu(t.batch_norm(f"{name}.bn1", t.conv(f"{name}.conv1", x, inner, 1)))
    y = relu(t.batch_norm(f"{name}.bn2", t.conv(f"{name}.conv2", y, inner, 3, stride=stride)))
    y = t.batch_norm(f"{name}.bn3", t.conv(f"{name}.conv3", y, 4 * inner, 1))
    return relu(y + (t.conv_norm(f"{name}.downsample", x, 4 * inner, 1, stride=stride) if matched else x))


def their_scan(t, name, u, d_state):
    """Four scans, token by token: rows, columns, and both from their ends; outputs added where the tokens lie."""
    batch, inner, height, width = u.shape
    rank = math.ceil(inner // 2 / 16)
    numbers = torch.arange(height * width).view(height, width)
    orders = [numbers.flatten(), numbers.T.flatten()]
    orders += [order.flip(0) for order in orders]
    project = t(f"{name}.x_proj_weight", 4, rank + 2 * d_state, inner)
    steps, biases = t(f"{name}.dt_projs_weight", 4, inner, rank), t(f"{name}.dt_projs_bias", 4, inner)
    rates = -t(f"{name}.A_logs", 4 * inner, d_state).view(4, inner, d_state).exp()
    skips, total = (
        t(f"{name}.Ds", 4 * inner).view(4, inner),
        torch.zeros(batch, height * width, inner).double(),
    )
    for number, order in enumerate(orders):
        h = torch.zeros(batch, inner, d_state, dtype=torch.float64)
        for place in order.tolist():
            token = u.flatten(2)[:, :, place]
            low, b, c = (token @ project[number].T).split([rank, d_state, d_state], -1)
            delta = functional.softplus(low @ steps[number].T + biases[number])
            h = (delta[..., None] * rates[number]).exp() * h + (delta * token)[..., None] * b[:, None]
            total[:, place] += (h * c[:, None]).sum(-1) + skips[number] * token
    return total.unflatten(1, (height, width))


def their_state_space_maps(t, x, width, depths, d_state=16):
    x = t.conv("stem.0", x, width // 2, 7, bias=True, stride=2)
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    weight, bias = (t(f"stem.1.{part}", width // 2)[:, None, None] for part in ("weight", "bias"))
    x = (x - mean) / (var + 1e-5).sqrt() * weight + bias
    x = t.conv("vssm_encoder.patch_embed.proj", x, width, 2, bias=True, stride=2, padding=0)
    x, maps = t.layer_norm("vssm_encoder.patch_embed.norm", x.permute(0, 2, 3, 1)), []
    for stage, depth in enumerate(depths):
        dim = width * 2**stage
        if stage:
            four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            merged = t.layer_norm(f"vssm_encoder.downsamples.{stage - 1}.norm", torch.cat(four, -1))
            x = t.linear(f"vssm_encoder.downsamples.{stage - 1}.reduction", merged, dim, bias=False)
        for number in range(depth):
            block = f"vssm_encoder.layers.{stage}.blocks.{number}"
            name = f"{block}.self_attention"
            wide, gate = t.linear(
                f"{name}.in_proj", t.layer_norm(f"{block}.ln_1", x), 4 * dim, bias=False
            ).chunk(2, -1)
            grid = functional.silu(
                t.conv(f"{name}.conv2d", wide.permute(0, 3, 1, 2), 2 * dim, 3, True, groups=2 * dim)
            )
            y = t.layer_norm(f"{name}.out_norm", their_scan(t, name, grid, d_state))
            x = x + t.linear(f"{name}.out_proj", y * functional.silu(gate), dim, bias=False)
        maps.append(x.permute(0, 3, 1, 2))
    return maps


def their_block(t, name, x, local, heads, norms):
    """x + attention(norm(x), norm(local)), then + MLP; `norms` name those of x and of the other map."""
    batch, dim, height, width = x.shape
    a, normal = f"{name}.attn", t.batch_norm(f"{name}.{norms[0]}", x)
    around = (0, -width % WINDOW, 0, -height % WINDOW)
    qkv = t.conv(f"{a}.qkv.0", functional.pad(normal, around), 3 * dim, 1)
    tall, broad = qkv.shape[2:]
    qkv = qkv.view(batch, 3, heads, dim // heads, tall, broad)
    attended = torch.zeros(batch, heads, dim // heads, tall, broad, dtype=torch.float64)
    place = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
    side = 2 * WINDOW - 1
    table = t(f"{a}.relative_position_bias_table", side**2, heads).view(side, side, heads)
    bias = torch.stack([
        torch.stack([table[r - s + WINDOW - 1, c - d + WINDOW - 1] for s, d in place]) for r, c in place
    ]).permute(2, 0, 1)  # fmt: skip
    for row in range(0, tall, WINDOW):
        for column in range(0, broad, WINDOW):
            window = (..., slice(row, row + WINDOW), slice(column, column + WINDOW))
            q, k, v = (qkv[:, part][window].flatten(3).mT for part in range(3))
            weights = (q @ k.mT / (dim // heads) ** 0.5 + bias).softmax(-1)
            attended[window] = (weights @ v).mT.unflatten(3, (WINDOW, WINDOW))
    attended = attended.reshape(batch, dim, tall, broad)[:, :, :height, :width]

    def strip_mean(grid):
        """Of rows: WINDOW of them around each, zeros beyond the edge but for one reflected row after the last."""
        rows = torch.cat([grid, grid[:, :, -2:-1]], 2)
        padded = functional.pad(rows, (0, 0, WINDOW // 2 - 1, WINDOW // 2 - 1))
        return torch.stack([padded[:, :, row : row + WINDOW].mean(2) for row in range(grid.shape[2])], 2)

    normed = t.batch_norm(f"{name}.{norms[1]}", local) if norms[1] else normal
    spread = strip_mean(attended) + strip_mean(attended.mT).mT
    spread = spread + t.conv_norm(f"{a}.local1", normed, dim, 3) + t.conv_norm(f"{a}.local2", normed, dim, 1)
    deep = t.conv_norm(f"{a}.proj", functional.pad(spread, (0, 1, 0, 1)), dim, WINDOW, groups=dim)
    x = x + t.conv(f"{a}.proj.2", deep, dim, 1)[:, :, :height, :width]
    wide = t.conv(f"{name}.mlp.fc1", t.batch_norm(f"{name}.norm2", x), 4 * dim, 1, bias=True).clamp(0, 6)
    return x + t.conv(f"{name}.mlp.fc2", wide, dim, 1, bias=True)


def their_skip(t, name, x, skip, dim):
    shares = t(f"{name}.weights", 2).clamp(min=0)
    shares = shares / (shares.sum() + 1e-8)
    x = shares[0] * t.conv(f"{name}.pre_conv.0", skip, dim, 1) + shares[1] * grow(x, skip.shape[2:])
    return t.conv_norm(f"{name}.post_conv", x, dim, 3).clamp(0, 6)


def their_rs3mamba(t, x, width, depths, resnet, heads, decoder, latent, **_):
    """Dense features and embedding."""
    local_maps, size, maps, inner = (
        their_state_space_maps(t, x, width, depths),
        x.shape[2:],
        [],
        2 * width // 3,
    )
    x = functional.relu(t.batch_norm("backbone.bn1", t.conv("backbone.conv1", x, inner, 7, stride=2)))
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    for stage, (depth, local) in enumerate(zip(resnet, local_maps, strict=True)):
        for number in range(depth):
            stride = 2 if stage and not number else 1
            name = f"backbone.layer{stage + 1}.{number}"
            x = their_bottleneck(t, name, x, inner * 2**stage, stride, matched=not number)
        x = their_block(t, f"Fuse.{stage}", x, local, heads, ("normx", "normy"))
        maps.append(x)
    y = t.linear("linear_encode.1", gelu(x.flatten(1)), latent)
    embedding = t.layer_norm("linear_encode.2", y)
    x = t.conv_norm("decoder.pre_conv", maps[3], decoder, 1)
    x = their_block(t, "decoder.b4", x, x, 8, ("norm1", ""))
    x = their_skip(t, "decoder.p3", x, maps[2], decoder)
    x = their_block(t, "decoder.b3", x, x, 8, ("norm1", ""))
    x = their_skip(t, "decoder.p2", x, maps[1], decoder)
    x = their_block(t, "decoder.b2", x, x, 8, ("norm1", ""))
    x = their_skip(t, "decoder.p1", x, maps[0], decoder)
    place = torch.sigmoid(t.conv("decoder.p1.pa.0", x, decoder, 3, True, groups=decoder))
    few = t.conv("decoder.p1.ca.1.0", x.mean((2, 3), keepdim=True), decoder // 16, 1).clamp(0, 6)
    gated = place * x + torch.sigmoid(t.conv("decoder.p1.ca.3.0", few, decoder, 1)) * x
    deep = t.conv_norm("decoder.p1.proj", gated, decoder, 3, groups=decoder)
    x = t.conv("decoder.p1.proj.2", deep, decoder, 1) + t.conv_norm("decoder.p1.shortcut", x, decoder, 1)
    x = t.conv_norm("decoder.segmentation_head.0", x.clamp(0, 6), decoder, 3).clamp(0, 6)
    return grow(x, size), embedding


def parity(model, name_map, theirs, fixed=None):
    """Largest relative difference of dense features and summaries, once their weights are ours by the shipped map."""
    x = torch.randn(2, 10, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    asks = Theirs()
    theirs(asks, x)
    weights = weights_of(asks.shapes) | (fixed or {})
    wanted = theirs(Theirs(weights), x)
    counters = [
        name.replace("running_mean", "num_batches_tracked") for name in weights if "running_mean" in name
    ]
    names, path = read_map(Path(name_map)), Path(name_map)
    renamed = rename(weights | dict.fromkeys(counters, torch.tensor(0)), names, path).weights
    ours = model.double().eval().state_dict()
    initial = ours.keys() - renamed.keys()
    assert initial <= names.may_be_initial(ours)
    model.load_state_dict(renamed | {name: ours[name] for name in initial})
    with torch.no_grad():
        made = model(x)
    return max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(made, wanted, strict=True)
    )


def vit_parity(has_stem=False, **options):
    model = AuthorsViTUPerNet(**VIT, **options, latent=12, stem_px=64 * has_stem, code_px=64)
    code = torch.from_numpy(position_code(16, 16, VIT["width"], PAPER_TEMPERATURE)).double().flatten(0, 1)
    fixed = {"vit_encoder.vit_encoder.pos_embed": functional.pad(code, (0, 0, 1, 0))[None]}
    theirs = partial(their_vit_upernet, **VIT, **options, latent=12, has_stem=has_stem)
    return parity(model, "phileo-vit-upernet", theirs, fixed)


PARITY = {
    "ViT-UPerNet, patch 4 and 512 channels": lambda: vit_parity(has_stem=True, normed_taps=True),
    "ViT-UPerNet, other sizes": lambda: vit_parity(eps=1e-6),
    "RS3Mamba": lambda: parity(AuthorsRS3Mamba(**RS3), "phileo-rs3mamba", partial(their_rs3mamba, **RS3)),
}


@pytest.mark.parametrize("part", PARITY)
def test_parts_equal_their_descriptions(part):
    torch.manual_seed(0)
    assert PARITY[part]() < 1e-5


def test_the_parity_table_of_the_docs_has_these_parts():
    rows = re.findall(r"^\| `(.+?)` \| (\S+) \|", LADDER.read_text(), re.MULTILINE)
    table = {part: float(bound) for part, bound in rows if part in PARITY}
    assert list(table) == list(PARITY)
    assert set(table.values()) == {1e-5}


def test_the_stem_has_leaky_relus():
    model = AuthorsViTUPerNet(**VIT, stem_px=32).double()
    stem, x = model.encoder.stem, torch.randn(1, 10, 32, 32, dtype=torch.float64)
    y = functional.leaky_relu(stem.norm1(stem.mix(x)))
    y = functional.leaky_relu(stem.norm2(stem.conv(y)))
    y = functional.leaky_relu(stem.residual(x, stem.excite(stem.project(y))))
    assert torch.allclose(stem(x), y)


def test_paths_and_channels_are_dropped_in_training_alone():
    torch.manual_seed(0)
    model, x = AuthorsRS3Mamba(**RS3), torch.randn(4, 10, 64, 64)
    blocks = [layer for layer in model.modules() if hasattr(layer, "dropped")]
    assert [block.dropped for block in blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert torch.equal(model.eval()(x).dense, model(x).dense)
    with torch.no_grad():
        assert not torch.equal(model.train()(x).dense, model(x).dense)


@pytest.mark.parametrize("taps", [[0, 1, 2], [0, 1, 2, 4], [1, 0, 2, 3]])
def test_taps_that_are_no_blocks_are_named(taps):
    with pytest.raises(GeoladderError, match="four of the blocks 0 to 3"):
        AuthorsViTUPerNet(**(VIT | {"taps": taps}))
