"""Reads shards as the tars that they are, from a folder or a URL: a single file from anywhere can be looked at."""

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.io.remote import open_folder, parent_and_name
from pipeline.io.storage import Folder, LocalFolder, is_url
from pipeline.shards.manifest import MANIFEST, read_manifest
from pipeline.shards.sample import MAX_MEMBER_BYTES, TurnSample, decode

MEMBER = re.compile(r"[A-Za-z0-9_-]{1,80}\.(json|\d{3,10}\.jpg)")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One shard, wherever it stands."""

    folder: Folder
    name: str
    size: int | None = None  # bytes, as the manifest has it; None: it is read without one

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def dataset(self) -> str:
        """Of a shard that stands as builds put it, OUT/DATASET/SPLIT/NAME: the folder's name."""
        place = str(self.folder) if is_url(str(self.folder)) else str(Path(str(self.folder)).absolute())
        return "".join(place.rstrip("/").split("/")[-2:-1])


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar."""

    name: str
    offset: int  # of its bytes in the tar
    data: bytes


def shards_at(place: str) -> list[ShardFile]:
    """List the shards that a path or a URL names: itself (.tar), or those of a split folder.

    Raises:
        ProspectError: nothing there, or a folder that is no finished build.
    """
    if is_url(place):
        above, name = parent_and_name(place)
        if not name.endswith(".tar"):
            return of_split(open_folder(place))
        folder = open_folder(above)
        if not isinstance(folder, LocalFolder):
            return [ShardFile(folder, name)]
        place = str(folder.path / name)
    path = Path(place)
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            splits = sorted(str(p.parent) for p in path.glob(f"**/{MANIFEST}"))
            there = f"; split folders below it: {', '.join(splits)}" if splits else ""
            raise ProspectError(
                f"{path}: a folder without {MANIFEST}, expected a shard (.tar) or a split folder{there}"
            )
        return of_split(LocalFolder(path))
    if not path.is_file():
        raise ProspectError(f"{path}: no such file, expected a shard (.tar) or a split folder made by build-shards")
    return [ShardFile(LocalFolder(path.parent), path.name)]


def of_split(folder: Folder) -> list[ShardFile]:
    return [ShardFile(folder, shard.name, shard.bytes) for shard in read_manifest(folder).shards]


def read_members(shard: ShardFile) -> Iterator[Member]:
    """Read the files of the tar, in order; of what a header claims, what is there.

    Raises:
        ProspectError: not a tar, cut short, not there, or with other members than builds write.
    """
    with shard.folder.open(shard.name, shard.size) as stream:
        with _as_shard(shard):
            tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 (the stream is closed)
        while True:
            with _as_shard(shard):
                info = tar.next()
                if info is None:
                    return
                _check_member(shard, info)
                file = tar.extractfile(info)
                assert file is not None
                data = file.read()
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header
            yield Member(info.name, info.offset_data, data)


@contextmanager
def _as_shard(shard: ShardFile) -> Iterator[None]:
    """What tarfile says of bytes that are no tar; a RecursionError where headers stand on each other."""
    try:
        yield
    except ProspectError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise ProspectError(
            f"{shard}: not a shard, or cut short ({error}), expected a tar made by build-shards"
        ) from None


def _check_member(shard: ShardFile, info: tarfile.TarInfo) -> None:
    """A plain file of a name that builds give and a size that memory holds; not one that claims bytes without having
    them (sparse), which a name out of its folder could follow."""
    again = "build the shard again"
    if not MEMBER.fullmatch(info.name):
        raise ProspectError(
            f"{shard}: member: found the name {info.name!a:.80}, expected KEY.json or KEY.000.jpg; {again}"
        )
    if info.issparse() or not info.isreg():
        raise ProspectError(
            f"{shard} member {info.name}: found a link, folder or sparse file, expected a file; {again}"
        )
    if info.size > MAX_MEMBER_BYTES:
        raise ProspectError(
            f"{shard} member {info.name}: found a size of {info.size} bytes, expected at most {MAX_MEMBER_BYTES}; "
            f"{again}"
        )


def read_groups(shard: ShardFile) -> Iterator[list[Member]]:
    """Read the members of each sample: its JSON, then its embedded images (none where the shard was built without).

    Raises:
        ProspectError: not a tar of such members, or cut short.
    """
    members: list[Member] = []
    for member in read_members(shard):
        if member.name.endswith(".json") and members:
            yield members
            members = []
        if not members and not member.name.endswith(".json"):
            raise ProspectError(f"{shard} member {member.name}: found no sample before it; build the shard again")
        members.append(member)
    if not members:
        raise ProspectError(f"{shard}: found no turn sample, expected a shard made by build-shards")
    yield members


def read_samples(shard: ShardFile) -> Iterator[tuple[TurnSample, list[Member]]]:
    """Read each sample with its members.

    Raises:
        ProspectError: not a tar of turn samples, or cut short.
    """
    for members in read_groups(shard):
        yield decode(members[0].data, f"{shard} member {members[0].name}"), members


def read_clips_of(shard: ShardFile) -> Iterator[list[TurnSample]]:
    """Read the samples of one clip after the other."""
    samples: list[TurnSample] = []
    for sample, _ in read_samples(shard):
        if samples and sample.clip.id != samples[0].clip.id:
            yield samples
            samples = []
        samples.append(sample)
    yield samples


def find_sample(shards: list[ShardFile], key: str) -> tuple[TurnSample, list[bytes], list[TurnSample]]:
    """Find the sample with this number (`12` or `#12`, counted over all shards), this key, or the only one whose key
    begins or ends so; its images; all samples of its clip.

    Raises:
        ProspectError: none, or several.
    """
    matches = []
    number = key.removeprefix("#")
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    count = 0
    for shard in shards:
        clip: list[TurnSample] = []
        for sample, members in read_samples(shard):
            if not clip or sample.clip.id != clip[0].clip.id:
                clip = []
            clip.append(sample)
            is_match = sample.key.startswith(key) or sample.key.endswith(key) if wanted is None else count == wanted
            if is_match:
                matches.append((sample, [member.data for member in members[1:]], clip))
            count += 1
    exact = [entry for entry in matches if entry[0].key == key] or matches
    if len(exact) != 1:
        what = f"{len(exact)} samples ({exact[0][0].key}, {exact[1][0].key}, ...)" if exact else "no sample"
        raise ProspectError(
            f"{shards[0]}: --key {key!r} names {what}, expected one; the table without --key lists them"
        )
    return exact[0]
