"""The documentation keeps up: sections cited exist, links and paths lead somewhere, the shard format has every key."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.shards.manifest import SCHEMA
from pipeline.shards.reader import of_split, read_samples
from pipeline.shards.sample import encode
from pipeline.shards.scan import Options
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.places import ROOT

MAPS = {"kinds", "skipped_by_field"}  # of the manifest: their keys are data
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "shards/README.md"])
SOURCES = sorted(p for folder in ("pipeline", "prospect", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"`((?:pipeline|prospect|tests|benchmarks|configs|docs)/[\w./-]*)`")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=named)
def test_every_section_that_is_cited_is_a_heading_of_the_design(path):
    headings = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs/design.md").read_text(), re.M))
    assert set(re.findall(r"§\s?(\d+)", path.read_text())) <= headings


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file(page):
    links = [link for link in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if named(page) not in ("README.md", "docs/results.md")], ids=named
)
def test_every_path_that_a_page_names_is_there(page):
    text = page.read_text()
    assert [path for path in MODULE.findall(text) if not (ROOT / path).exists()] == []
    assert set(re.findall(r"`(\w+\.py)`", text)) <= {"cli.py", *(path.name for path in SOURCES)}


def rows_of(section: str) -> dict[str, list[str]]:
    """The keys that the first column of a section's table names -> the other cells of their row."""
    _, _, rest = (ROOT / "shards/README.md").read_text().partition(f"## {section}\n")
    rows = [line.strip("|").split(" | ") for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return {key: [cell.strip() for cell in cells[1:]] for cells in rows for key in re.findall(r"`([\w.]+)`", cells[0])}


def keys_of(value: Any, prefix: str = "") -> list[str]:
    """Dotted keys of nested JSON objects, those in lists too, in order."""
    if isinstance(value, list):
        return list(dict.fromkeys(key for one in value for key in keys_of(one, prefix)))
    if not isinstance(value, dict) or prefix.rstrip(".") in MAPS:
        return []
    return [name for key, inner in value.items() for name in (prefix + key, *keys_of(inner, f"{prefix}{key}."))]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A split in which no list of the manifest and of the samples is empty."""
    folder = tmp_path_factory.mktemp("docs")
    clip = raw_clip(metadata={"quality": 9})
    clip["conversation"].append({"role": "system", "content": "Later.", "start_frame": 30, "end_frame": 31})
    root = write_root(folder / "data", [clip, raw_clip(video_uid="v2", fps=-1, metadata={"quality": 8})])
    options = Options(embed_frames=True, on_invalid="skip", where=("quality>=8",))
    return build_split(root, "x", "train", folder / "shards", frames_root=root / "x", options=options)


def test_shards_readme_has_every_key_of_the_manifest(build):
    manifest = json.loads((build.folder.path / "manifest.json").read_text())
    assert manifest["skipped"] and manifest["frames_files"]
    assert sorted(rows_of("The manifest")) == sorted(keys_of(manifest))


def test_shards_readme_has_every_key_of_a_sample_in_order(build):
    samples = [s for shard in of_split(LocalFolder(build.folder.path)) for s, _ in read_samples(shard)]
    records = [json.loads(encode(sample)) for sample in samples]
    assert samples[-1].trailing
    documented = list(rows_of("A sample"))
    assert sorted(documented) == sorted(keys_of(records))
    assert [key for key in documented if "." not in key] == list(records[0])


def test_shards_readme_has_every_column_of_the_index_with_its_type():
    assert {key: cells[0] for key, cells in rows_of("The index").items()} == dict(columns_of(SCHEMA))


def columns_of(fields: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted name and type of each column, and of what is inside structs."""
    found = []
    for field in fields:
        is_list = pa.types.is_list(field.type)
        inner = field.type.value_type if is_list else field.type
        kind = "struct" if pa.types.is_struct(inner) else str(inner)
        found.append((prefix + field.name, f"list of {kind}" if is_list else kind))
        if pa.types.is_struct(inner):
            found += columns_of(list(inner), f"{prefix}{field.name}.")
    return found
