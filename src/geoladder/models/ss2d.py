"""VMamba's visual state-space block (Liu et al., 2024, arXiv 2401.10166): a selective scan in four directions.

The four directions (rows, columns and both backwards) have step sizes, rates and weights of their own, so
they are four scans and cannot be one. No MLP follows, as in VMamba's first version, which RS3Mamba builds on.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.initial import Started, damp, start_steps
from geoladder.models.scan import selective_scan

DIRECTIONS = 4
KERNEL = 3


class SS2D(Started):
    """Gated four-way scan of a grid of tokens (B, rows, columns, dim), with arguments as `mamba.Mixer`."""

    def __init__(self, dim: int, d_state: int, expand: int) -> None:
        super().__init__()
        inner, self.d_state, self.dt_rank = expand * dim, d_state, math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, KERNEL, padding=KERNEL // 2, groups=inner)
        self.x_projs = nn.ModuleList(
            nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False) for _ in range(DIRECTIONS)
        )
        self.dt_projs = nn.ModuleList(nn.Linear(self.dt_rank, inner) for _ in range(DIRECTIONS))
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log()
        self.A_logs = nn.Parameter(rates.repeat(DIRECTIONS, inner, 1))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS, inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def start(self, depth: int) -> None:
        """Give each scan its initial steps, and damp the branch, the block's only one."""
        for projection in self.dt_projs:
            start_steps(cast(nn.Linear, projection))
        damp(self.out_proj, depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim) to the same."""
        wide, gate = self.in_proj(x).chunk(2, -1)
        grid = functional.silu(self.conv(wide.permute(0, 3, 1, 2)))
        y = torch.zeros_like(grid)
        for direction in range(DIRECTIONS):
            y = y + _turn_back(self._scan(_turn(grid, direction), direction), direction)
        return self.out_proj(self.norm(y.permute(0, 2, 3, 1)) * functional.silu(gate))

    def _scan(self, grid: Tensor, direction: int) -> Tensor:
        """Scan (B, inner, rows, columns) row by row."""
        u = grid.flatten(2)
        sizes = [self.dt_rank, self.d_state, self.d_state]
        step, b, c = self.x_projs[direction](u.mT).split(sizes, -1)
        delta = functional.softplus(self.dt_projs[direction](step))
        rates = -torch.exp(self.A_logs[direction].float())
        return selective_scan(u, delta.mT, rates, b.mT, c.mT, self.Ds[direction]).view_as(grid)


def _turn(grid: Tensor, direction: int) -> Tensor:
    """Rows, columns, rows backwards, columns backwards become rows."""
    grid = grid.mT if direction % 2 else grid
    return (grid.flip(2, 3) if direction >= 2 else grid).contiguous()


def _turn_back(grid: Tensor, direction: int) -> Tensor:
    grid = grid.flip(2, 3) if direction >= 2 else grid
    return grid.mT if direction % 2 else grid


class VSSBlock(nn.Module):
    """x + SS2D(norm(x)); (B, rows, columns, dim) to the same."""

    def __init__(self, dim: int, d_state: int, expand: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = SS2D(dim, d_state, expand)

    def forward(self, x: Tensor) -> Tensor:
        """One residual step."""
        return x + self.mixer(self.norm(x))


class PatchMerging(nn.Module):
    """2 x 2 tokens become one of twice the channels (Swin, arXiv 2103.14030)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim) to (B, rows / 2, columns / 2, 2 dim)."""
        batch, rows, columns, dim = x.shape
        pairs = x.view(batch, rows // 2, 2, columns // 2, 2, dim).transpose(2, 3)
        return self.reduce(self.norm(pairs.flatten(3)))
