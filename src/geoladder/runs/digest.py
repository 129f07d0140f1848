"""Seals: what the bytes of a finished file are and what it was made from, in a small file beside it.

`atomic_path` seals whatever it writes: `.NAME.seal` lies beside NAME. Who reads a file of ours takes its path through
`intact`, so that a rotten bit, an edit or a copy from another study never becomes a result. A file without a seal is
from elsewhere, or older than seals, and is taken as it is. Archives and benches may be anybody's, so there only
`geoladder verify` looks.
"""

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from geoladder.errors import GeoladderError
from geoladder.runs.remake import remake
from geoladder.runs.temporary import temporary

SMALL_BYTES = 64 * 2**20
"""Of files up to this size the digest is checked whenever they are opened, of larger ones the size."""
READ_BYTES = 2**20
BLOCK_BYTES = 4096
LONGEST_SEAL = 4096
"""Characters that are read of a seal; none is nearly as long."""


class Seal(NamedTuple):
    """What a file is when it is finished."""

    size_bytes: int
    sha256: str
    made_from: str | None = None
    """Fingerprint of the spec, of a file that is an output of the workflow."""
    sums: str | None = None
    """As `block_sums`, of a large file."""

    @classmethod
    def of(cls, path: Path, made_from: str | None = None) -> Self:
        """Seal of the bytes a file has now."""
        size_bytes = path.stat().st_size
        sums = block_sums(path) if size_bytes > SMALL_BYTES else None
        return cls(size_bytes, sha256(path), made_from, sums)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The seal that lies beside `path`; None where there is none, or a crash of the machine left it empty.

        Raises:
            GeoladderError: it is damaged itself.
        """
        beside = seal_path(path)
        if not os.path.isfile(beside):  # noqa: PTH113 - unlike Path's, false of a name that is too long
            return None
        try:
            with beside.open() as handle:
                text = handle.read(LONGEST_SEAL)
            facts = json.loads(text)["file"] if text else None
            if facts and _sealed_text(facts) != text:
                raise ValueError("it is not as it was written")
            seal = cls(**facts) if facts else None
        except FileNotFoundError:  # just removed, by a run that replaces the file
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
            raise GeoladderError(
                f"{beside} is damaged ({problem}), so nothing says whether {path} is as it was written; "
                f"{remake(path)}"
            ) from None
        return seal

    def fault(self, size_bytes: int, digest: str) -> str:
        """In what a file differs from the sealed one, by its size and its SHA-256 or `block_sums`; "" in nothing."""
        if size_bytes != self.size_bytes:
            return f"it has {size_bytes} bytes instead of {self.size_bytes}"
        same = digest in (self.sha256, self.sums)
        return "" if same else f"its bytes are not those of its digest {self.sha256[:12]}"

    def text(self) -> str:
        """Content of the file beside."""
        return _sealed_text({name: value for name, value in self._asdict().items() if value is not None})

    def put(self, complete: Path, path: Path) -> None:
        """Rename the file `complete`, whose seal this is, to `path`, and put the seal beside it.

        Killed in between it leaves a file without a seal, which is taken as it is, and never a file beside the seal
        of another.
        """
        beside = seal_path(path)
        unfinished = temporary(beside)
        try:
            unfinished.write_text(self.text())
            beside.unlink(missing_ok=True)
            complete.replace(path)
            unfinished.replace(beside)
        finally:
            unfinished.unlink(missing_ok=True)


def _sealed_text(facts: dict[str, Any]) -> str:
    """Facts as one line of JSON, with a digest of themselves."""
    text = json.dumps(facts, sort_keys=True)
    return f'{{"file": {text}, "seal": "{hashlib.sha256(text.encode()).hexdigest()[:12]}"}}\n'


def sha256(path: Path, advance: Callable[[int], object] = lambda _: None) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; the file is never whole in memory.

    `advance` is called with each number of bytes read.
    """
    digest, block = hashlib.sha256(), bytearray(READ_BYTES)
    with path.open("rb") as handle:
        while count := handle.readinto(block):
            digest.update(memoryview(block)[:count])
            advance(count)
    return digest.hexdigest()


def block_sums(path: Path) -> str:
    """SHA-256 of the sums, modulo 2^64, of the 64-bit words in each block of a file, and of the bytes after the last.

    As fast as memory is read; that of all bytes would take a tenth of the time in which a shard becomes batches. Of
    what happens to disks it misses only changes within one block that cancel out, which `verify` finds.
    """
    import numpy as np

    content = np.memmap(path, np.uint8, mode="r")
    blocks, rest = np.split(content, [len(content) // BLOCK_BYTES * BLOCK_BYTES])
    sums = blocks.view(np.uint64).reshape(-1, BLOCK_BYTES // 8).sum(1)
    return hashlib.sha256(sums.tobytes() + rest.tobytes()).hexdigest()


def seal_path(path: Path) -> Path:
    """Where the seal of a file lies."""
    return path.with_name(f".{path.name}.seal")


def intact(path: Path, made_from: str | None = None, whole: bool = False) -> Path:
    """The path itself, if the file is as it was written; missing files are left to who opens them.

    Checks the size and, where both are known, that it was made from the fingerprint `made_from`; of files up to
    `SMALL_BYTES` also the digest, and of larger ones, if `whole`, the sums of their blocks: once in a process, unless
    the file changes.

    Raises:
        GeoladderError: it is not, or its seal is damaged; says what makes it again.
    """
    seal = Seal.read(path)
    if seal is None or not path.is_file():
        return path
    if None not in (made_from, seal.made_from) and made_from != seal.made_from:
        raise GeoladderError(
            f"{path} is of another study or older: it was made from {seal.made_from}, but {made_from} is wanted; "
            f"{remake(path)}"
        )
    state, digest = path.stat(), seal.sha256
    if state.st_size == seal.size_bytes and (whole or state.st_size <= SMALL_BYTES):
        digest = _known(path, state.st_ino, state.st_ctime_ns, block_sums if seal.sums else sha256)
    if fault := seal.fault(state.st_size, digest):
        if Seal.read(path) != seal:  # a run has just replaced the file
            return intact(path, made_from, whole)
        raise GeoladderError(
            f"{path} cannot be read as it was written, for it was damaged or edited: {fault}; {remake(path)}. "
            f"Where the change is meant, delete {seal_path(path)}"
        )
    return path


def discard(path: Path) -> None:
    """Remove a file, if it is there, and its seal."""
    path.unlink(missing_ok=True)
    seal_path(path).unlink(missing_ok=True)


@lru_cache(maxsize=4096)
def _known(path: Path, inode: int, changed_ns: int, measure: Callable[[Path], str]) -> str:
    """Digest of a file that has not changed since it was taken; time stamps of changes cannot be set back."""
    return measure(path)
