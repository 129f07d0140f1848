"""Models by address: a folder on this machine, or `hf://owner/name@revision` on the Hugging Face hub.

An address on the hub must name a revision, best a commit: weights under a branch may change while results that rest
on them stay, and a branch gets a warning. huggingface_hub is imported for such addresses only; it keeps
what it fetched, so that a model once used loads without network.
"""

import logging
import re
from pathlib import Path
from typing import Any

from torch import nn

from geoladder.errors import GeoladderError
from geoladder.training.checkpoints import load_trained

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
FILES = ["model.safetensors", "model.json", "README.md"]


def load_model(source: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """A trained backbone in evaluation mode, and its card, from a run, an export, or `hf://owner/name@revision`.

    Returns:
        The backbone, which takes (B, bands, H, W) float32 standardised reflectance and gives
        `geoladder.models.backbone.Features`; and model.json as a dictionary, with `bands`, `statistics`, `transform`.

    Raises:
        GeoladderError: there is no such folder, repository or revision, the hub cannot be reached, or the weights are
            damaged or do not fit the card.
    """
    folder = fetch(str(source), FILES) if str(source).startswith("hf://") else Path(source)
    if not folder.is_dir():
        raise GeoladderError(
            f"there is no folder {folder}; give the folder of a finished run, or hf://owner/name@revision"
        )
    return load_trained(folder)


def fetch(address: str, files: list[str]) -> Path:
    """Folder with those of these files that a repository on the hub has; raises as `load_model`."""
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise GeoladderError(
            f"'{address}' is no model on the hub; write hf://owner/name@revision, with a commit or a tag"
        )
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise GeoladderError(
            f"{address} needs the package huggingface_hub; pip install 'geoladder[hub]'"
        ) from None
    repo, revision = match["repo"], match["revision"]
    if revision == "main":
        log.warning("%s may be other weights tomorrow; name a commit", address)
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))
    except errors.RevisionNotFoundError:
        reason = f"{repo} on the hub has no revision '{revision}'; see its list of commits"
    except errors.RepositoryNotFoundError:
        reason = f"the hub has no repository {repo}, or it is private; check the name, or log in with `hf auth login`"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        reason = (
            f"the hub cannot be reached (or HF_HUB_OFFLINE is set), and {repo} at {revision} was not fetched before; "
            "fetch it on a machine with network, and give its folder"
        )
    except (errors.HfHubHTTPError, OSError) as problem:
        reason = f"the hub refused {repo} at {revision}: {problem}; try again later"
    raise GeoladderError(reason)
