"""The stored images of a split's frames, wherever the build left them: embedded in the shards, or in Arrow files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pipeline.io.frame_store import FrameFile, find_frames_file, open_frames, search_roots
from prospect.config import DataConfig
from prospect.data.index import Split


@dataclass(frozen=True, slots=True)
class StoredImages:
    split: Split
    frames_root: Path | None  # searched first for Arrow files
    data_root: Path

    @classmethod
    def of(cls, split: Split, data: DataConfig) -> "StoredImages":
        return cls(split, data.frames_root, data.root)

    def read(self, rows: tuple[int, int], frames_file: str, frames: Sequence[int]) -> Iterator[bytes]:
        """Give the JPEG or PNG bytes of `frames` of a clip, untouched; each is read when it is asked for.

        Args:
            rows: first and end of the index rows in which the frames are.
            frames_file: as the clip names it.

        Raises:
            ProspectError: shard or frames file is missing or damaged; names it.
        """
        if self.split.manifest.options.embed_frames:
            return self._embedded(rows, frames)
        return map(self._file(frames_file).read, frames)

    def shape(self, frames_file: str) -> tuple[int, int] | None:
        """Give the shape (height, width) in which a video is shown; None: as its frames are, or it is not told."""
        return None if self.split.manifest.options.embed_frames else self._file(frames_file).shape

    def _file(self, frames_file: str) -> FrameFile:
        roots = search_roots(self.frames_root, self.data_root, self.split.manifest.dataset)
        return open_frames(find_frames_file(frames_file, roots))

    def _embedded(self, rows: tuple[int, int], frames: Sequence[int]) -> Iterator[bytes]:
        """Each row's images are read together."""
        ranges = self.split.index[rows[0] : rows[1]].select("start_frame", "end_frame").rows()
        places = {
            f: (rows[0] + i, 1 + f - start) for i, (start, last) in enumerate(ranges) for f in range(start, last + 1)
        }
        for row, together in groupby((places[frame] for frame in frames), key=itemgetter(0)):
            yield from self.split.members(row, [member for _, member in together])
