"""Files that a document names: the list of them, links that lead out, map files that are not what they seem."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import InlineMap, load_document, referenced_files
from muse_stream.errors import ConfigError
from tests.config.example_config import FILE, ROOT, TEXT, changed, problems_of


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "config"))


def test_every_file_is_listed_once_relative_and_sorted() -> None:
    assert [path.as_posix() for path in referenced_files(load_document(FILE))] == [
        "golden/blend.json",
        "golden/cards-2026q2.json",
        "golden/cards-2026q3.json",
        "maps/cards-acme.json",
        "maps/cards-pooled.json",
        "maps/cautious-pooled.json",
        "maps/next-pooled.json",
        "models/blend.onnx",
        "models/cards-2026q2.onnx",
        "models/cards-2026q3.onnx",
        "schemas/card-event-v1.avsc",
        "schemas/card-event.avsc",
        "schemas/ids.json",
    ]


def test_a_file_that_vanishes_after_the_check_is_refused(copied: Path) -> None:
    loaded = load_document(copied / "muse.yaml")
    (copied / "models" / "blend.onnx").unlink()
    with pytest.raises(ConfigError, match=r"no file 'models/blend.onnx'"):
        referenced_files(loaded)


def test_a_folder_is_no_map_and_is_reported_once() -> None:
    (problem,) = problems_of(changed(("file: maps/cards-acme.json", "file: maps")))
    assert (problem.path, problem.message) == ("maps.cards-acme.file", "'maps' is not a file")


def test_a_file_in_a_folder_that_is_not_there_says_so() -> None:
    (problem,) = problems_of(changed(("uri: models/blend.onnx", "uri: modles/blend.onnx")))
    assert problem.hint == "there is no folder 'modles'"


def test_the_pinned_hashes_are_those_of_the_files() -> None:
    for model in load_document(FILE).document.models.values():
        assert hashlib.sha256((ROOT / model.uri).read_bytes()).hexdigest() == model.sha256


def test_the_script_of_the_example_makes_the_files_that_are_committed(copied: Path) -> None:
    for made in [*copied.glob("models/*"), *copied.glob("maps/*"), *copied.glob("golden/*")]:
        made.unlink()
    subprocess.run([sys.executable, copied / "make_models.py"], check=True, timeout=280)
    for file in [Path("muse.yaml"), *referenced_files(load_document(FILE))]:
        assert (copied / file).read_bytes() == (ROOT / file).read_bytes(), file


def test_maps_load_from_files_and_inline() -> None:
    loaded = load_document(FILE)
    maps = loaded.fitted.maps
    assert maps.keys() == loaded.document.maps.keys()
    inline = loaded.document.maps["blend-pooled"]
    assert isinstance(inline, InlineMap)
    found = maps["blend-pooled"]
    assert (found.fitted_for, found.samples) == (inline.fitted_for, 20000)
    assert (tuple(found.levels), tuple(found.values)) == (inline.levels, inline.values)
    assert maps["cards-acme"].samples == 20000
    assert len(maps["cards-acme"].levels) == len(maps["cards-acme"].values) == 19


def test_a_map_that_changes_after_the_check_is_not_used(copied: Path) -> None:
    loaded = load_document(copied / "muse.yaml")
    (copied / "maps" / "cards-acme.json").write_text("{}")
    assert loaded.fitted.maps["cards-acme"].samples == 20000
    with pytest.raises(ConfigError, match=r"maps\.cards-acme\.sha256: .* has another sha256"):
        load_document(copied / "muse.yaml")


def test_generations_share_the_maps_that_they_have_in_common(copied: Path) -> None:
    first = load_document(copied / "muse.yaml")
    (copied / "muse.yaml").write_bytes(first.source.data + b"# more\n")
    second = load_document(copied / "muse.yaml")
    assert second.fitted.maps["cards-acme"] is first.fitted.maps["cards-acme"]


@pytest.mark.parametrize("target", ["models/blend.onnx", "schemas/card-event-v1.avsc"])
def test_a_link_that_leads_out_of_the_folder_is_refused(copied: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(copied / target, outside)
    (copied / target).symlink_to(outside)
    (problem,) = problems_of(TEXT, copied)
    assert "a link that leads out" in problem.message
    assert "copy the file" in problem.hint


def test_a_link_inside_the_folder_and_a_linked_root_are_fine(copied: Path, tmp_path: Path) -> None:
    (copied / "models" / "same.onnx").symlink_to(copied / "models" / "blend.onnx")
    (tmp_path / "current").symlink_to(copied)
    assert problems_of(changed(("models/blend.onnx", "models/same.onnx")), tmp_path / "current") == ()


def _sound_map() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "maps" / "cards-acme.json").read_bytes())
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "the file: Input should be"),
        (json.dumps({**_sound_map(), "levels": [0.0, 1.0]}).encode(), "2 levels but 19 values"),
        (json.dumps({**_sound_map(), "values": [float("nan")] * 19}).encode(), "finite number"),
        (json.dumps({**_sound_map(), "extra": 1}).encode(), "extra"),
        (json.dumps({**_sound_map(), "fitted_for": "0" * 64}).encode(), "was fitted for 000000000000..."),
    ],
)
def test_a_map_file_that_is_no_usable_map_is_refused(copied: Path, content: bytes, says: str) -> None:
    before = hashlib.sha256((copied / "maps" / "cards-acme.json").read_bytes()).hexdigest()
    (copied / "maps" / "cards-acme.json").write_bytes(content)
    (problem,) = problems_of(TEXT.replace(before, hashlib.sha256(content).hexdigest()), copied)
    assert says in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"x": "card-event.avsc"}', "'x' is not a schema id"),
        ('{"7": "card-evnt.avsc"}', "id 7 names no file of the folder: 'card-evnt.avsc'"),
        ('{"7": ["card-event.avsc"]}', "names no file"),
        ('{"7": "card-event.avsc", "7": "card-event-v1.avsc"}', "id 7 is there twice"),
        ('{"7": "card-event.avsc", "07": "card-event-v1.avsc"}', "id 7 is there twice"),
    ],
)
def test_a_broken_table_of_schema_ids_is_refused(copied: Path, ids: str, says: str) -> None:
    (copied / "schemas" / "ids.json").write_text(ids)
    (problem,) = problems_of(TEXT, copied)
    assert problem.path == "schemas"
    assert says in problem.message


def test_the_table_of_schema_ids_is_optional(copied: Path) -> None:
    (copied / "schemas" / "ids.json").unlink()
    assert problems_of(TEXT, copied) == ()
