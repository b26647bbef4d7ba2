"""ImportedBenchmark pairs: every image can be decoded later, and every text can be written."""

import os
from pathlib import Path

import pytest
from foreign_files import write_mmvp
from pictured_pairs import picture

from blindpairs.benchmark.hub import export_hub
from blindpairs.benchmark.mmvp import import_mmvp
from blindpairs.benchmark.native import read_native
from blindpairs.errors import InputError


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_image_that_is_cut_short_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    image = write_mmvp(tmp_path / "mmvp") / "MMVP Images" / "3.jpg"
    whole = picture(3, kind)
    image.write_bytes(whole)
    assert len(import_mmvp(tmp_path / "mmvp").benchmark.pairs) == 3
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"3\.jpg is damaged \(the \w+ is cut off.*\): download the benchmark again"):
        import_mmvp(tmp_path / "mmvp")


def test_folder_whose_name_is_not_utf_8_gives_addresses_that_every_file_can_hold(tmp_path: Path) -> None:
    folder = write_mmvp(Path(os.fsdecode(os.fsencode(tmp_path) + b"/mmvp\xff")))
    read = import_mmvp(folder).benchmark
    export_hub(read, tmp_path / "out")
    again = read_native(tmp_path / "out")
    assert again.pairs == read.pairs
    assert again.pairs[0].uri_a == f"{tmp_path}/mmvp\\xff/MMVP Images/1.jpg"
    assert dict(again.images(again.image_ids)) == dict(read.images(read.image_ids))
