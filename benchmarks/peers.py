"""Training steps of our families beside public models of equal parameters and of equal FLOPs, in one process.

    python benchmarks/peers.py                  # in an environment that tools/peers_env.sh makes
    python benchmarks/peers.py --peers timm     # these contests alone

Peers are a ViT of timm with a pixel-shuffle head, a ResNet U-Net of segmentation_models_pytorch, a sequence model
of mambapy between patches and a pixel-shuffle head, MONAI's U-Net and transformers' UPerNet on a ViT; those whose
package is not installed are left out. One side has a dial, by which it is made as large as the other: once in
parameters, once in FLOPs.

A step is forward, backward and AdamW on 16 images of 32 x 32 pixels and 10 bands, one thread. Prints samples per
second of CPU time (medians of interleaved repeats) and their ratio. Exits with 1 where a bar is missed: the Mamba
more than 3 times as slow as the ViT per FLOP, or a family slower than a peer marked `must_win`.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from geoladder.counting import count_gflops, count_parameters
from geoladder.models.architectures import unet
from geoladder.models.build import PretrainModel, build_backbone, build_from
from geoladder.models.scan_op import scan_backward_flops, scan_flops
from geoladder.training.trainer import adamw

BANDS, PX, BATCH, PATCH = 10, 32, 16, 4
REPEATS, STEPS = 5, 4
SIZES = ("xs", "s", "m")


class Ours(nn.Module):
    """Reconstruction by one of our backbones, with its other heads unused."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.model = PretrainModel(backbone)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.model(x).reconstruction


class TransformersUPerNet(nn.Module):
    """UPerNet on a plain ViT (DINOv2's), four blocks, patch 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers import Dinov2Config, UperNetConfig, UperNetForSemanticSegmentation

        encoder = Dinov2Config(
            hidden_size=width,
            num_hidden_layers=4,
            num_attention_heads=2 if width >= 64 and width % 8 == 0 else 1,
            image_size=PX,
            patch_size=PATCH,
            num_channels=BANDS,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        self.model = UperNetForSemanticSegmentation(
            UperNetConfig(
                backbone_config=encoder,
                hidden_size=max(3, width // 4),
                pool_scales=[1, 2],
                use_auxiliary_head=False,
                num_labels=BANDS,
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.model(x).logits


class MonaiUNet(nn.Sequential):
    """U-Net of two 3x3 convolutions a level, with the same three levels below full resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from monai.networks.nets import BasicUNet

        features = (width, width, 2 * width, 4 * width, 4 * width, width)
        self.append(BasicUNet(2, BANDS, BANDS, features, act="GELU", norm=("group", {"num_groups": 1})))


class OfTokens(nn.Module):
    """Tokens of 4 x 4 pixels through `mixer`, (B, tokens, width) to the same, and back by a pixel shuffle."""

    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Conv2d(BANDS, width, PATCH, stride=PATCH)
        self.mixer = mixer
        self.head = nn.Conv2d(width, BANDS * PATCH**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        grid = self.embed(x)
        tokens = self.mixer(grid.flatten(2).mT)
        return functional.pixel_shuffle(self.head(tokens.mT.unflatten(2, grid.shape[2:])), PATCH)


def timm_vit(width: int) -> nn.Module:
    from timm.models.vision_transformer import Block

    heads = max(1, width // 32)
    return OfTokens(width, nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(4))))


def mambapy_stack(width: int) -> nn.Module:
    from mambapy.mamba import Mamba, MambaConfig

    return OfTokens(width, Mamba(MambaConfig(d_model=width, n_layers=4, d_state=8, expand_factor=1)))


def smp_unet(encoder: str) -> nn.Module:
    from segmentation_models_pytorch import Unet

    return Unet(encoder, encoder_weights=None, in_channels=BANDS, classes=BANDS)


def parameters(model: nn.Module) -> int:
    """Of ours without heads that take no part."""
    if isinstance(model, Ours):
        return count_parameters(model.model)["total"]
    return sum(parameter.numel() for parameter in model.parameters())


def gflops(model: nn.Module) -> float:
    """Of a training sample; scans of mambapy, which no counter sees, count as ours do.

    In evaluation mode, since BatchNorm refuses the single image at the ResNet's last map of one pixel.
    """
    counted = sum(count_gflops(copy.deepcopy(model).eval(), PX)[:2])
    mixer = getattr(model, "mixer", None)
    if type(mixer).__module__.startswith("mambapy"):
        delta, a = (PX // PATCH) ** 2 * mixer.config.d_inner, [1, 1, mixer.config.d_state]
        one = sum(formula(None, [delta], a) for formula in (scan_flops, scan_backward_flops))
        counted += mixer.config.n_layers * one / 1e9
    return counted


EQUAL: dict[str, Callable[[nn.Module], float]] = {"parameters": parameters, "FLOPs": gflops}


class Contest(NamedTuple):
    """Models of ours against one kind of peer."""

    family: str
    package: str
    fixed: Iterable[Callable[[], nn.Module]]
    """Models of one side as they are."""
    dialled: Callable[[int], nn.Module]
    """The other side, of any width."""
    widths: range
    ours_fixed: bool = True
    must_win: bool = False
    """At equal parameters."""


def rungs(architecture: str) -> list[Callable[[], nn.Module]]:
    return [lambda size=size: Ours(build_backbone(architecture, size)) for size in SIZES]


CONTESTS = (
    Contest("unet", "monai", rungs("unet"), MonaiUNet, range(2, 64), must_win=True),
    Contest(
        "vit_upernet",
        "transformers",
        rungs("vit_upernet"),
        TransformersUPerNet,
        range(4, 132, 4),
        must_win=True,
    ),
    Contest("vit_upernet", "timm", rungs("vit_upernet"), timm_vit, range(4, 132, 4)),
    Contest("mamba_upernet", "mambapy", rungs("mamba_upernet"), mambapy_stack, range(4, 260, 4)),
    Contest(
        "unet",
        "segmentation_models_pytorch",
        [lambda: smp_unet("resnet18")],
        lambda width: Ours(build_from("unet", unet.dial(width))),
        range(16, 512, 16),
        ours_fixed=False,
    ),
)


def matched(fixed: nn.Module, contest: Contest, size_of: Callable[[nn.Module], float]) -> nn.Module:
    """The dialled model whose size is nearest to that of the fixed one; sizes rise with the width."""
    target, low, high = size_of(fixed), 0, len(contest.widths) - 1

    def size(place: int) -> float:
        with torch.device("meta"):
            return size_of(contest.dialled(contest.widths[place]))

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return contest.dialled(contest.widths[min((low, high), key=lambda place: abs(size(place) - target))])


def seconds_per_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        functional.mse_loss(model(images), images).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - start) / STEPS


def side_by_side(models: list[nn.Module]) -> list[float]:
    """Samples per second of each."""
    images = torch.randn(BATCH, BANDS, PX, PX)
    pairs = [(model, adamw(model, 1e-3, 0.05)) for model in models]
    times: list[list[float]] = [[] for _ in pairs]
    for repeat in range(REPEATS + 1):
        for seconds, (model, optimizer) in zip(times, pairs, strict=True):
            spent = seconds_per_step(model, optimizer, images)
            if repeat:
                seconds.append(spent)
    return [BATCH / median(seconds) for seconds in times]


def hold(contest: Contest) -> bool:
    """Race all models of a contest; whether the bar is met."""
    passed = True
    for make in contest.fixed:
        fixed = make()
        for kind, size_of in EQUAL.items():
            pair = [fixed, matched(fixed, contest, size_of)]
            ours, peer = pair if contest.ours_fixed else pair[::-1]
            speed, peer_speed = side_by_side([ours, peer])
            ratio = speed / peer_speed
            ok = ratio >= 1 or not contest.must_win or kind != "parameters"
            passed &= ok
            print(
                f"{contest.family} and {contest.package}, equal {kind}: {ratio:.2f} times as quick "
                f"({speed:.0f} and {peer_speed:.0f} samples/s; {parameters(ours)} and {parameters(peer)} parameters, "
                f"{gflops(ours):.4f} and {gflops(peer):.4f} GFLOP){'' if ok else '  MISSED, bar 1.0'}",
                flush=True,
            )
    return passed


def mamba_against_vit() -> bool:
    passed = True
    for size in SIZES:
        models = [
            Ours(build_backbone(architecture, size)) for architecture in ("mamba_upernet", "vit_upernet")
        ]
        mamba, vit = side_by_side(models)
        slower = (vit * gflops(models[1])) / (mamba * gflops(models[0]))
        ok = slower <= 3
        passed &= ok
        print(
            f"mamba_upernet-{size} and vit_upernet-{size}: {slower:.2f} times as slow at equal FLOPs (bar 3) "
            f"{'ok' if ok else 'MISSED'}, {vit / mamba:.2f} times at {parameters(models[0])} and "
            f"{parameters(models[1])} parameters",
            flush=True,
        )
    return passed


def main() -> int:
    """Race, print, and fail where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    packages = list(dict.fromkeys(contest.package for contest in CONTESTS))
    parser.add_argument("--peers", nargs="+", choices=packages, help="contests with these packages alone")
    chosen = parser.parse_args().peers
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [] if chosen else [mamba_against_vit()]
    for contest in CONTESTS:
        if contest.package not in (chosen or packages):
            continue
        if find_spec(contest.package) is None:
            print(f"{contest.family}: {contest.package} is not installed here")
        else:
            results.append(hold(contest))
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
