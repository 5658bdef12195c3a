"""Where a checkpoint is: a folder here, or a hub id, resolved once to a folder of the hub's cache, a snapshot.

Config, weights, tokenizer, thresholds and an adapter's base are then read from that folder alone: they are of one
revision, which its name tells. `ORG/NAME` is the hub's newest revision, and where the hub gives no answer the newest in
the cache; `ORG/NAME@REVISION` is that branch, tag or commit. Whether the hub answers is asked once, for seconds.
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from pipeline.errors import ProspectError
from prospect.runs import HUB_ID, find_checkpoint

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
)
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
COMMIT = re.compile(r"[0-9a-f]{40}")
WITHOUT_WEIGHTS, WEIGHT_FILES = ("*.json", "*.txt", "*.jinja"), "*.safetensors"  # of a repository's first level
CACHED, SNAPSHOTS = "models--", "snapshots"  # names in the hub's cache: models--ORG--NAME/snapshots/COMMIT
PATIENCE_S = 5.0  # for the hub's first answer


def checkpoint_folder(place: str, *, weights: bool = True, processor: bool = True) -> str:
    """Give the folder of the checkpoint that `place` names: a checkpoint's, a run's (its last one), or a hub id.

    Args:
        weights: False: of a hub id all but its weights are enough.
        processor: False: a part of a checkpoint, such as a language model, which needs no image processor.

    Raises:
        ProspectError: there is no such folder, it is not whole, or the hub does not give it; names the fix.
    """
    found = find_checkpoint(place)
    if Path(found).is_dir():
        _check_whole(Path(found), True, processor)
        return found
    hub_id = HUB_ID.fullmatch(found)
    assert hub_id  # find_checkpoint refuses all else
    snapshot = _snapshot(hub_id[1], hub_id[2] or constants.DEFAULT_REVISION, weights)
    _check_whole(Path(snapshot), weights, processor)
    return snapshot


def checkpoint_name(folder: str | Path) -> str:
    """Name a checkpoint: of a folder of the hub's cache `ORG/NAME@COMMIT`, else the folder itself."""
    repository, snapshots, commit = ("", "", *Path(folder).parts)[-3:]
    if snapshots != SNAPSHOTS or not repository.startswith(CACHED):
        return str(folder)
    return f"{repository.removeprefix(CACHED).replace(constants.REPO_ID_SEPARATOR, '/')}@{commit}"


def _snapshot(hub_id: str, revision: str, weights: bool) -> str:
    """The folder of a revision, downloaded where it has to be."""
    files = [*WITHOUT_WEIGHTS, *([WEIGHT_FILES] if weights else [])]

    def fetch(local: bool) -> str:
        return str(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=files, ignore_patterns=["*/*"], local_files_only=local
            )
        )

    if COMMIT.fullmatch(revision):  # which never changes: nobody is asked for what is here
        try:
            return fetch(local=True)
        except LocalEntryNotFoundError:
            pass
    name = hub_id if revision == constants.DEFAULT_REVISION else f"{hub_id}@{revision}"
    failure = failure_of(lambda: HfApi().model_info(hub_id, revision=revision, timeout=PATIENCE_S), 2 * PATIENCE_S)
    try:
        return fetch(local=failure is not None)
    except LocalEntryNotFoundError as error:
        failure = failure or error
    except Exception as error:  # of httpx too, under whichever name the hub's client has it
        raise ProspectError(
            f"{name}: cannot be downloaded ({first_line(error)}); run the command again, or pass the folder of a copy"
        ) from None
    if isinstance(failure, RepositoryNotFoundError) and not isinstance(failure, GatedRepoError):
        raise ProspectError(
            f"{name}: found no such folder here, and no such model on the hub ({first_line(failure)}); correct the "
            "name, or, for a private model, log in with hf auth login"
        )
    raise ProspectError(
        f"{name}: not whole in the hub's cache ({constants.HF_HUB_CACHE}), and the hub does not give it "
        f"({first_line(failure)}); download it where there is a network (hf download {hub_id}), and pass the copied "
        "folder in its place"
    )


def failure_of(ask: Callable[[], object], seconds: float) -> Exception | None:
    """Give why `ask` did not succeed within the time; None: it did. The search for a host obeys no timeout but this."""
    outcomes: list[Exception | None] = []

    def run() -> None:
        try:
            ask()
            outcomes.append(None)
        except Exception as error:  # of the hub's client, of httpx, of the operating system
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcomes[0] if outcomes else TimeoutError(f"no answer in {seconds:g} s")


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_whole(folder: Path, weights: bool, processor: bool) -> None:
    """Raise ProspectError unless `folder` has config and, where they are asked for, weights and processor."""
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    fix = "give a whole checkpoint folder, weights and processor together"
    for names in (("config.json",), *((WEIGHTS,) if weights else ()), *((PROCESSORS,) if processor else ())):
        if not any((folder / name).is_file() for name in names):
            raise ProspectError(f"{checkpoint_name(folder)}: found {there}, expected {' or '.join(names[:2])}; {fix}")
