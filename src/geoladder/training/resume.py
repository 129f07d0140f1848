"""The state from which an interrupted run goes on: one checkpoint, of the highest step, never half-written.

Unusual: Lightning's own ModelCheckpoint is not used. It moves files into place without fsync, maybe across file
systems, and on any exception it saves, also in the middle of a step; here a checkpoint is always of a whole step.
"""

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from geoladder.atomic import atomic_path
from geoladder.errors import GeoladderError
from geoladder.training.lock import Lock

log = logging.getLogger(__name__)


class AtomicIO(TorchCheckpointIO):
    """Lightning's checkpoint files, renamed into place once they are on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write `checkpoint` to `path`."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint; raises GeoladderError where it is damaged."""
        try:
            return super().load_checkpoint(path, *args, **kwargs)
        except Exception as problem:  # unpickling damaged bytes raises errors of any kind
            raise GeoladderError(
                f"checkpoint {path} cannot be read ({problem!r}); delete it to train this run from the start"
            ) from problem


class Saver(Checkpoint):
    """Saves every few steps, and when Lightning leaves the loop because of SIGTERM, which it does between steps.

    Being a `Checkpoint`, it runs after all other callbacks, so that what these have noted of a step is saved with it.
    """

    def __init__(self, folder: Path, every_steps: int, lock: Lock | None) -> None:
        """Save into `folder`, and renew `lock` on the way (None on ranks that hold none)."""
        self._folder, self._every, self._lock = folder, every_steps, lock

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object, **__: object) -> None:
        """Lightning calls this after every step."""
        if self._lock is not None:
            self._lock.renew()
        if trainer.global_step % self._every == 0:
            self._save(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Lightning calls this before it lets an exception out of `fit`."""
        if isinstance(exception, SIGTERMException):
            self._save(trainer)
            log.info(
                "stopped by SIGTERM after step %d, which is saved; run again to go on", trainer.global_step
            )

    def _save(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step >= trainer.max_steps:
            return  # nothing is left to go on with
        path = _path_of(self._folder, trainer.global_step)
        trainer.save_checkpoint(path)
        for older in self._folder.glob("step-*.ckpt"):
            if trainer.is_global_zero and older != path:
                older.unlink(missing_ok=True)


def _path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.ckpt"


def newest_checkpoint(folder: Path) -> Path | None:
    """Checkpoint of the highest step in `folder`; None where there is none."""
    return max(folder.glob("step-*.ckpt"), default=None)
