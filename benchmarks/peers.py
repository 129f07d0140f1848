"""Training steps of our CPU rungs beside public models of equal parameters and input, in one process.

    pip install -c constraints.txt -e . monai transformers     # in an environment of their own
    python benchmarks/peers.py

A step is forward, backward and AdamW on 16 images of 32 x 32 pixels and 10 bands, one thread. Prints samples per
second of CPU time (medians of interleaved repeats) and their ratios, as they are (peers have equal parameters) and at
equal FLOPs (samples per second times FLOPs of one); exits with 1 where a bar is missed: U-Net and
ViT at least 1.0 times their peer's speed, Mamba within 3 times of the ViT per FLOP.
"""

import sys
import time
from statistics import median

import torch
from torch import nn
from torch.nn import functional

from geoladder.counting import count_gflops, count_parameters
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.training.trainer import adamw

BANDS, PX, BATCH = 10, 32, 16
REPEATS, STEPS = 7, 4
SIZES = ("xs", "s", "m")


class Ours(nn.Module):
    """Reconstruction by one of our rungs, with its other heads unused."""

    def __init__(self, architecture: str, size: str) -> None:
        super().__init__()
        self.model = PretrainModel(build_backbone(architecture, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        return self.model(x).reconstruction


class TransformersUPerNet(nn.Module):
    """UPerNet on a plain ViT (DINOv2's), four blocks, patch 4."""

    def __init__(self, width: int, decoder: int) -> None:
        super().__init__()
        from transformers import Dinov2Config, UperNetConfig, UperNetForSemanticSegmentation

        encoder = Dinov2Config(
            hidden_size=width,
            num_hidden_layers=4,
            num_attention_heads=2 if width >= 64 and width % 8 == 0 else 1,
            image_size=PX,
            patch_size=4,
            num_channels=BANDS,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        self.model = UperNetForSemanticSegmentation(
            UperNetConfig(
                backbone_config=encoder,
                hidden_size=decoder,
                pool_scales=[1, 2],
                use_auxiliary_head=False,
                num_labels=BANDS,
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to images."""
        return self.model(x).logits


class MonaiUNet(nn.Sequential):
    """U-Net of two 3x3 convolutions a level, with the same three levels below full resolution."""

    def __init__(self, width: int, coarsest: int) -> None:
        super().__init__()
        from monai.networks.nets import BasicUNet

        features = (width, width, 2 * width, 4 * width, coarsest, width)
        self.append(BasicUNet(2, BANDS, BANDS, features, act="GELU", norm=("group", {"num_groups": 1})))


def of_size(peer: type, target: int) -> nn.Module:
    """The peer whose parameters are nearest to `target`, by its width and its second dial."""
    if peer is MonaiUNet:
        dials = [(width, width * n // 2) for width in range(2, 40) for n in (7, 8, 9)]
    else:
        dials = [
            (width, width // 4 + n) for width in range(4, 100, 4) for n in (-1, 0, 1, 2) if width // 4 + n > 2
        ]

    def distance(dial: tuple[int, int]) -> float:
        with torch.device("meta"):
            return abs(sum(p.numel() for p in peer(*dial).parameters()) - target)

    return peer(*min(dials, key=distance))


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


def against_peer(architecture: str, peer_type: type) -> bool:
    passed = True
    for size in SIZES:
        ours = Ours(architecture, size)
        parameters = count_parameters(ours.model)["total"]
        peer = of_size(peer_type, parameters)
        theirs = sum(p.numel() for p in peer.parameters())
        speed, peer_speed = side_by_side([ours, peer])
        gflops, peer_gflops = (sum(count_gflops(model, PX)[:2]) for model in (ours, peer))
        at_equal_flops = speed * gflops / (peer_speed * peer_gflops)
        ok = speed >= peer_speed
        passed &= ok
        print(
            f"{architecture}-{size}: {speed:.0f} samples/s with {parameters} parameters; {peer_type.__name__} "
            f"{peer_speed:.0f} with {theirs}; at equal parameters {speed / peer_speed:.2f} (bar 1.0) "
            f"{'ok' if ok else 'MISSED'}, at equal FLOPs {at_equal_flops:.2f} "
            f"({gflops:.4f} and {peer_gflops:.4f} GFLOP)"
        )
    return passed


def mamba_against_vit() -> bool:
    passed = True
    for size in SIZES:
        models = [Ours(architecture, size) for architecture in ("mamba_upernet", "vit_upernet")]
        gflops = [sum(count_gflops(model.model, PX)[:2]) for model in models]
        mamba, vit = side_by_side(models)
        slower = (vit * gflops[1]) / (mamba * gflops[0])
        parameters = [count_parameters(model.model)["total"] for model in models]
        ok = slower <= 3
        passed &= ok
        print(
            f"mamba_upernet-{size}: {mamba:.0f} samples/s of {gflops[0]:.4f} GFLOP; ViT {vit:.0f} of {gflops[1]:.4f};"
            f" at equal FLOPs {slower:.2f} times slower (bar 3) {'ok' if ok else 'MISSED'}, "
            f"at about equal parameters ({parameters[0]} and {parameters[1]}) {vit / mamba:.2f} times"
        )
    return passed


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [mamba_against_vit()]
    for name, peer_of in (("unet", MonaiUNet), ("vit_upernet", TransformersUPerNet)):
        try:
            results.append(against_peer(name, peer_of))
        except ModuleNotFoundError as problem:
            print(f"{name}: no peer here ({problem})")
    sys.exit(not all(results))
