"""Layouts of the authors' code against their descriptions, written out here with weights made here; the parity table.

The authors' code is not at hand here: what a layer does is written from what is known of it (docs/ladder.md), in
float64 and by other means than the models use.
"""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.rs3mamba import AuthorsRS3Mamba, _PatchMerging
from geoladder.models.tokens import position_code
from geoladder.models.unetformer import WINDOW
from geoladder.models.vit import PAPER_TEMPERATURE, AuthorsViTUPerNet

LADDER = Path(__file__).parents[2] / "docs/ladder.md"
VIT = dict(width=16, depth=4, heads=2, patch=4, taps=[0, 1, 2, 3])
RS3 = dict(
    width=12, depths=[1, 1, 2, 1], resnet=[1, 1, 1, 1], heads=4, decoder=64, latent=12, image_px=64, d_state=4
)


def random_weights(model):
    """Float64, nothing at its start: norms, biases and running statistics count, too."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.double().eval().state_dict().items():
        if tensor.dtype == torch.float64:
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(
                values.abs() + 0.5
                if name.endswith("running_var")
                else values / max(1, tensor[0].numel()) ** 0.5
            )
    return model


def vit_by_description(w, x, heads, patch, taps, eps, normed_taps):
    """ViT-UPerNet from a state dict: attention as a matrix of all pairs, norms by their formula."""

    def linear(name, tokens):
        return tokens @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, tokens):
        centred = tokens - tokens.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv_relu(name, grid):
        """Convolution without bias, BatchNorm of its running statistics, ReLU."""
        weight = w[f"{name}.0.weight"]
        y = functional.conv2d(grid, weight, padding=weight.shape[-1] // 2)
        return batch_relu(f"{name}.1", y)

    def batch_relu(name, grid):
        mean, var, weight, bias = (
            w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.relu((grid - mean) / (var + 1e-5).sqrt() * weight + bias)

    def double(name, grid):
        weight = w[f"{name}.weight"]  # (in, out, 2, 2): each pixel becomes 2 x 2
        y = torch.einsum("bihw,iokl->bohkwl", grid, weight).flatten(4, 5).flatten(2, 3)
        return y + w[f"{name}.bias"][:, None, None]

    rows = x.shape[2] // patch
    width = w["encoder.cls"].shape[0]
    pixels = functional.unfold(x, patch, stride=patch).mT
    tokens = linear("encoder.patches.embed", pixels)
    tokens = tokens + torch.from_numpy(position_code(rows, rows, width, PAPER_TEMPERATURE)).double().flatten(
        0, 1
    )
    tokens = torch.cat([w["encoder.cls"].expand(len(x), 1, -1), tokens], 1)
    maps = []
    depth = 1 + max(int(re.match(r"encoder\.blocks\.(\d+)", name)[1]) for name in w if "blocks." in name)
    for number in range(depth):
        block = f"encoder.blocks.{number}"
        q, k, v = linear(f"{block}.qkv", norm(f"{block}.norm1", tokens)).chunk(3, -1)
        heads_of = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v)]
        weights = (heads_of[0] @ heads_of[1].mT / (width // heads) ** 0.5).softmax(-1)
        tokens = tokens + linear(f"{block}.proj", (weights @ heads_of[2]).transpose(1, 2).flatten(2))
        wide = linear(f"{block}.fc1", norm(f"{block}.norm2", tokens))
        tokens = tokens + linear(f"{block}.fc2", wide * (1 + torch.erf(wide / 2**0.5)) / 2)
        tokens = norm("encoder.norm", tokens) if number == depth - 1 else tokens
        if number in taps:
            maps.append(tokens[:, 1:].mT.unflatten(2, (rows, rows)))
    d = "decoder"
    first = double(f"{d}.scales.0.3", batch_relu(f"{d}.scales.0.1", double(f"{d}.scales.0.0", maps[0])))
    maps[0] = batch_relu(f"{d}.scales.0.4", first) if normed_taps else first
    maps[1] = batch_relu(f"{d}.scales.1.1", double(f"{d}.scales.1.0", maps[1]))
    maps[2] = batch_relu(f"{d}.scales.2.0", maps[2]) if normed_taps else maps[2]
    coarse = functional.max_pool2d(maps[3], 2)

    def grow(grid, size):
        return functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)

    pooled = [
        grow(conv_relu(f"{d}.pools.{number}", functional.adaptive_avg_pool2d(coarse, bins)), coarse.shape[2:])
        for number, bins in enumerate((1, 2, 3, 6))
    ]
    levels = [conv_relu(f"{d}.bottleneck", torch.cat([coarse, *pooled], 1))]
    for number in (2, 1, 0):
        lateral = conv_relu(f"{d}.laterals.{number}", maps[number])
        levels.insert(0, lateral + grow(levels[0], lateral.shape[2:]))
    smooth = [conv_relu(f"{d}.smooth.{number}", levels[number]) for number in range(3)]
    size = smooth[0].shape[2:]
    return conv_relu(f"{d}.fuse", torch.cat([grow(level, size) for level in (*smooth, levels[3])], 1))


def vit_parity(normed_taps, eps):
    model = random_weights(AuthorsViTUPerNet(**VIT, normed_taps=normed_taps, eps=eps))
    x = torch.randn(2, 10, 32, 32, dtype=torch.float64)
    want = vit_by_description(model.state_dict(), x, 2, 4, VIT["taps"], eps, normed_taps)
    with torch.no_grad():
        return relative(model(x).dense, want)


def fusion_by_description(w, x, local, heads):
    """x + attention(norm(x), norm(local)), then + MLP, from a state dict of one fusion block."""

    def batch_norm(name, grid):
        parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(grid, *parts)

    def conv_norm(name, grid):
        weight = w[f"{name}.0.weight"]
        return batch_norm(f"{name}.1", functional.conv2d(grid, weight, padding=weight.shape[-1] // 2))

    batch, dim, height, width = x.shape
    a, normal = "attention", batch_norm("norm1", x)
    qkv = functional.conv2d(normal, w[f"{a}.qkv.weight"]).view(batch, 3, heads, dim // heads, height, width)
    attended = torch.zeros_like(x).view(batch, heads, dim // heads, height, width)
    place = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
    table = w[f"{a}.bias_table"].view(2 * WINDOW - 1, 2 * WINDOW - 1, heads)
    bias = torch.stack([
        torch.stack([table[r - s + WINDOW - 1, c - d + WINDOW - 1] for s, d in place]) for r, c in place
    ]).permute(2, 0, 1)  # fmt: skip
    for row in range(0, height, WINDOW):
        for column in range(0, width, WINDOW):
            window = (..., slice(row, row + WINDOW), slice(column, column + WINDOW))
            q, k, v = (qkv[:, part][window].flatten(3).mT for part in range(3))
            weights = (q @ k.mT / (dim // heads) ** 0.5 + bias).softmax(-1)
            attended[window] = (weights @ v).mT.unflatten(3, (WINDOW, WINDOW))
    attended = attended.reshape(x.shape)

    def strip_mean(grid):
        """Of rows: WINDOW of them around each, zeros beyond the edge but for one reflected row after the last."""
        rows = torch.cat([grid, grid[:, :, -2:-1]], 2)
        padded = functional.pad(rows, (0, 0, WINDOW // 2 - 1, WINDOW // 2 - 1))
        return torch.stack([padded[:, :, row : row + WINDOW].mean(2) for row in range(height)], 2)

    normed = batch_norm("norm_local", local)
    spread = strip_mean(attended) + strip_mean(attended.mT).mT
    spread = spread + conv_norm(f"{a}.local3", normed) + conv_norm(f"{a}.local1", normed)
    padded = functional.pad(spread, (0, 1, 0, 1))
    deep = functional.conv2d(padded, w[f"{a}.proj.0.weight"], padding=(WINDOW - 1) // 2, groups=dim)
    deep = functional.conv2d(batch_norm(f"{a}.proj.1", deep), w[f"{a}.proj.2.weight"])[:, :, :height, :width]
    x = x + deep
    wide = functional.conv2d(batch_norm("norm2", x), w["fc1.weight"], w["fc1.bias"]).clamp(0, 6)
    return x + functional.conv2d(wide, w["fc2.weight"], w["fc2.bias"])


def fusion_parity():
    block = random_weights(AuthorsRS3Mamba(**RS3)).encoder.fusions[0]
    x, local = (torch.randn(2, dim, 16, 16, dtype=torch.float64) for dim in (32, 12))
    with torch.no_grad():
        return relative(block(x, local), fusion_by_description(block.state_dict(), x, local, RS3["heads"]))


def merging_parity():
    merge = _PatchMerging(3).double()
    merge.by_columns = True
    x = torch.randn(2, 4, 6, 3, dtype=torch.float64)
    four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    with torch.no_grad():
        return relative(merge(x), merge.reduce(merge.norm(torch.cat(four, -1))))


def latent_parity():
    model = random_weights(AuthorsRS3Mamba(**RS3))
    weights = model.state_dict()
    with torch.no_grad():
        features = model.encoder(x := torch.randn(2, 10, 64, 64, dtype=torch.float64), None)
        maps, summary = features
        flat = maps[-1].flatten(1)
        y = flat * (1 + torch.erf(flat / 2**0.5)) / 2 @ weights["encoder.to_latent.1.weight"].T
        y = y + weights["encoder.to_latent.1.bias"]
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        assert len(x) == len(y)
        return relative(
            summary, y * weights["encoder.to_latent.2.weight"] + weights["encoder.to_latent.2.bias"]
        )


def relative(got, want):
    return float((got - want).abs().max() / want.abs().max())


PARITY = {
    "ViT-UPerNet, patch 4 and 512 channels": lambda: vit_parity(True, 1e-5),
    "ViT-UPerNet, other sizes": lambda: vit_parity(False, 1e-6),
    "RS3Mamba, fusion": fusion_parity,
    "RS3Mamba, patch merging": merging_parity,
    "RS3Mamba, embedding": latent_parity,
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
