"""One pretraining run: chips in, `model.safetensors`, `model.json`, `log.csv` and `metrics.json` out.

Unusual: every random choice is a function of (seed, step), so a run that was killed continues from its highest
checkpoint and ends with the same numbers, bit for bit, as one that was not. Checkpoints live in
`state/<fingerprint>/` beside the results, where the workflow does not delete them, and go when the run is done.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from geoladder.atomic import write_json
from geoladder.cost.flops import gflops_fwd
from geoladder.cost.params import count_parameters
from geoladder.data.bands import BANDS
from geoladder.data.stats import BandStats
from geoladder.errors import GeoladderError
from geoladder.models.heads import PretrainModel
from geoladder.models.ladder import build_backbone
from geoladder.provenance import birth_certificate
from geoladder.specs import PretrainSpec
from geoladder.training.checkpoints import save_model
from geoladder.training.journal import Journal
from geoladder.training.lock import only_job
from geoladder.training.losses import PretrainBatch, PretrainTerms, pretrain_terms
from geoladder.training.resume import Saver, newest_checkpoint
from geoladder.training.schedule import adamw, per_step
from geoladder.training.stream import Chips, training_batches, training_chips, validation_chips
from geoladder.training.trainer import fit, make_trainer
from geoladder.training.validate import validate

log = logging.getLogger(__name__)

BACKWARD_COST = 2
"""FLOPs of a backward pass, in forward passes: one product for the weights, one for the inputs."""


def pretrain(
    spec: PretrainSpec,
    chips: Path,
    validation: Path,
    stats: Path,
    out: Path,
    threads: int = 1,
    devices: int = 1,
    strategy: str = "auto",
    progress: bool = True,
) -> None:
    """Train one cell, or what is left of it after an interruption.

    Args:
        spec: the run.
        chips: chip folder of the cell's corpus.
        validation: chip folder with the common validation set.
        stats: stats.json.
        out: result folder; `metrics.json` in it is written last.
        threads: CPU threads. Results are bit-identical at a fixed number of them.
        devices: GPUs, or CPU processes; each takes a slice of every batch.
        strategy: `auto`, `ddp` or `fsdp`.
        progress: draw a progress bar, if this is a terminal.

    Raises:
        GeoladderError: no chips, a loss that is not a number, or another job at work on this run.
        SystemExit: after SIGTERM, with the step reached saved; the same call goes on from there.
    """
    torch.set_num_threads(threads)
    start = time.perf_counter()
    band_stats = BandStats.load(stats)
    train, val = training_chips(spec, chips, band_stats), validation_chips(spec, validation, band_stats)
    state = out / "state" / spec.fingerprint
    is_first_rank = not getattr(rank_zero_only, "rank", 0)
    with only_job(state) if is_first_rank else nullcontext() as lock:
        module = PretrainModule(spec, train)
        journal = Journal(state / "log.csv", module.steps, spec.batch, val, spec.objective)
        trainer = make_trainer(
            module.steps,
            spec.precision,
            spec.gradient_clip,
            [journal, Saver(state, spec.checkpoint_every, lock)],
            _tensorboard(out) if spec.tensorboard else None,
            devices,
            strategy,
            progress,
        )
        resumed = newest_checkpoint(state)
        if resumed:
            log.info("resuming from %s", resumed)
        fit(trainer, module, resumed)
        if trainer.is_global_zero:
            metrics = validate(module.model, val, spec.objective)
            # The last update comes after the last loss, so it is judged here.
            module.check_finite(metrics["val_loss"], "validation loss")
            facts = module.facts()
            save_model(module.model, _card(spec, band_stats) | facts, out)
            journal.write(out / "log.csv")
            _write_metrics(facts, metrics, time.perf_counter() - start, out)
            log.info("%s-%s on %s: %s", spec.architecture, spec.size, spec.corpus, metrics)
            shutil.rmtree(out / "state")


class PretrainModule(lightning.LightningModule):
    """The model and its objective, as Lightning wants them."""

    def __init__(self, spec: PretrainSpec, chips: Chips) -> None:
        """Build the model from the spec's seed, leaving global random state as it was."""
        super().__init__()
        self.spec, self.chips = spec, chips
        self.steps = math.ceil(spec.samples / spec.batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            self.model = PretrainModel(build_backbone(spec.architecture, spec.size))
        self._last_finite = math.nan

    def train_dataloader(self) -> Iterator[PretrainBatch]:
        """Batches from the step this run has reached."""
        trainer = self.trainer
        return training_batches(
            self.spec, self.chips, self.global_step, trainer.global_rank, trainer.world_size
        )

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (Lightning's own union type)
        """AdamW with a warmed-up cosine per step."""
        optimizer = adamw(self.model, self.spec.lr, self.spec.weight_decay)
        return per_step(optimizer, self.steps, self.spec.warmup_share)

    def training_step(self, batch: PretrainBatch, _: int) -> dict[str, Any]:
        """Loss of one batch, its terms and the learning rate; raises GeoladderError when it is not finite."""
        terms = pretrain_terms(self.model(batch.pixels, batch.mask), batch)
        loss = terms.total(self.spec.objective)
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._last_finite = self.check_finite(float(loss.detach()), "loss")
        return {"loss": loss, "terms": PretrainTerms(*(term.detach() for term in terms)), "lr": lr}

    def check_finite(self, value: float, name: str) -> float:
        """Return the value of the loss called `name`; raise GeoladderError when it is not finite."""
        if math.isfinite(value):
            return value
        cell = f"{self.spec.architecture}-{self.spec.size}"
        raise GeoladderError(
            f"the {name} of {cell} on {self.spec.corpus} (seed {self.spec.seed}) became {value} at step "
            f"{self.global_step} of {self.steps} (last finite loss {self._last_finite:.4g}); lower "
            f"pretrain.rungs.{cell}.lr below {self.spec.lr:.3g}, or look for bad pixels with `geoladder inspect`"
        )

    def facts(self) -> dict[str, Any]:
        """What every result says of the run: identity, sizes, data and compute."""
        samples = self.steps * self.spec.batch
        gflops = gflops_fwd(self.model, self.chips.side_px)
        return {
            "fingerprint": self.spec.fingerprint,
            "spec": self.spec.model_dump(mode="json"),
            "provenance": birth_certificate(self.spec),
            "parameters": count_parameters(self.model),
            "steps": self.steps,
            "samples_seen": samples,
            "unique_chips": len(self.chips),
            "unique_pixels": len(self.chips) * self.chips.side_px**2,
            "gflops_fwd": gflops,
            "gflops_train": gflops * (1 + BACKWARD_COST) * samples,
            "lr": self.spec.lr,
        }


def _tensorboard(out: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(out, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise GeoladderError(
            "pretrain.tensorboard is true, but TensorBoard is not installed; pip install 'geoladder[tensorboard]', "
            "or set it to false"
        ) from None


def _card(spec: PretrainSpec, stats: BandStats) -> dict[str, Any]:
    """What one must know to use the weights."""
    return {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "bands": list(BANDS),
        "transform": spec.transform,
        "statistics": stats.as_dict(),
        "objective": spec.objective.model_dump(mode="json"),
    }


def _write_metrics(facts: dict[str, Any], metrics: dict[str, float], seconds: float, out: Path) -> None:
    write_json(out / "metrics.json", facts | {"metrics": metrics, "seconds": seconds})
