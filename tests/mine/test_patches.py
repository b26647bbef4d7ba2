"""The patch tokens of a store's images: the same bits in any company, counted where unread, nothing left behind."""

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from patch_fields import GRID, PlainEncoder, ids_of, pictures, store_of

from blindpairs.encoders import Encoder, Layer, load_encoder
from blindpairs.errors import InputError
from blindpairs.images.preprocess import Preprocess
from blindpairs.mine import patches
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.patches import AXES, BATCH, StorePatches, blocks_to_compare
from blindpairs.store.memory import map_rows

SIZES = [(64, 64), (1, 1), (40, 90), (3, 700), (700, 3), (1, 50), (33, 31)]
Fields = NDArray[np.float16]


def plain(store: Any, folder: Path, **options: Any) -> StorePatches:
    return StorePatches(store, cast(Encoder, PlainEncoder(**options)), folder)


def by_id(fields: PatchFields) -> dict[str, bytes]:
    return {key: fields.values[row].tobytes() for key, row in fields.rows.items()}


@pytest.fixture(scope="module")
def dino() -> Encoder:
    return load_encoder("dino", "demo:dino")


@pytest.mark.parametrize("demo", [True, False], ids=["demo encoder", "plain encoder"])
def test_field_is_the_same_bits_whatever_is_asked_with_it_and_in_any_order_of_the_corpus(
    tmp_path: Path, dino: Encoder, demo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "SAMPLE_VALUES", 0)  # the axes are those of the first BATCH ids
    encoder = dino if demo else cast(Encoder, PlainEncoder(width=200))
    files = pictures(tmp_path / "images", BATCH + 9, SIZES)
    whole = by_id(StorePatches(store_of(tmp_path / "a", files), encoder, tmp_path).fields(ids_of(files)))
    assert len(whole) == len(set(ids_of(files)))
    first, rest = sorted(whole)[:BATCH], sorted(whole)[BATCH:]
    for seed in range(1 if demo else 3):  # a model takes time
        shuffled = [files[place] for place in np.random.default_rng(seed).permutation(len(files))]
        some = [*first, *rest[seed::2]]
        found = by_id(StorePatches(store_of(tmp_path / f"{seed}", shuffled), encoder, tmp_path).fields(some[::-1]))
        assert found == {key: whole[key] for key in some}


@pytest.mark.parametrize("demo", [True, False], ids=["demo encoder", "plain encoder"])
def test_field_is_the_same_bits_on_any_number_of_cores(tmp_path: Path, dino: Encoder, demo: bool) -> None:
    encoder = dino if demo else cast(Encoder, PlainEncoder(width=200))
    files = pictures(tmp_path / "images", 3 * BATCH + 9, SIZES)
    store, before = store_of(tmp_path / "store", files), torch.get_num_threads()
    found = []
    try:
        for cores in (1, 2, 5):
            torch.set_num_threads(cores)
            found.append(StorePatches(store, encoder, tmp_path).fields(ids_of(files)))
    finally:
        torch.set_num_threads(before)
    assert [list(one.rows) for one in found] == [list(found[0].rows)] * 3
    assert [one.values.tobytes() for one in found] == [found[0].values.tobytes()] * 3


@pytest.mark.parametrize("count", [0, 1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_fields_keep_the_distances_of_the_tokens(tmp_path: Path, count: int) -> None:
    files = pictures(tmp_path / "images", count)
    encoder = PlainEncoder()  # narrower than AXES: nothing is lost
    store = store_of(tmp_path / "store", files or pictures(tmp_path / "other", 1))
    found = StorePatches(store, cast(Encoder, encoder), tmp_path).fields(ids_of(files))
    assert found.values.shape == (count, 3, GRID[0] * GRID[1], AXES)
    assert sorted(found.rows) == sorted(ids_of(files))
    assert set(encoder.batches) <= {BATCH}
    if count < 2:
        assert not found.values.any()  # an image alone is the mean
        return
    squares = np.stack([encoder.preprocess.apply(pixels_in(file)) for file in files])
    tokens = torch.stack([one.patches for one in encoder.tokens_of(torch.from_numpy(squares), blocks_to_compare(4))], 1)
    fields = torch.from_numpy(np.stack([found.values[found.rows[key]] for key in ids_of(files)])).float()
    assert torch.allclose((fields[1:] - fields[:-1]).norm(dim=3), (tokens[1:] - tokens[:-1]).norm(dim=3), rtol=0.01)


def pixels_in(file: Path) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))


def test_axes_are_those_of_the_largest_variance(tmp_path: Path) -> None:
    files = pictures(tmp_path / "images", 60)
    encoder = PlainEncoder(width=80)
    found = StorePatches(store_of(tmp_path / "store", files), cast(Encoder, encoder), tmp_path).fields(ids_of(files))
    squares = np.stack([encoder.preprocess.apply(pixels_in(file)) for file in files])
    for layer, read in enumerate(encoder.tokens_of(torch.from_numpy(squares), blocks_to_compare(4))):
        centred = read.patches.double().numpy() - read.patches.double().numpy().mean(0)
        variances = np.linalg.eigvalsh(np.einsum("bni,bnj->ij", centred, centred))[::-1]
        kept = np.square(found.values[:, layer].astype(np.float64)).sum((0, 1))
        assert kept == pytest.approx(variances[:AXES], rel=0.01)


def test_images_that_cannot_be_read_are_counted_by_reason_and_have_no_row(tmp_path: Path) -> None:
    files = pictures(tmp_path / "images", BATCH + 20)
    ids, store = ids_of(files), store_of(tmp_path / "store", files)
    for gone in files[:3]:
        gone.unlink()
    files[3].write_bytes(files[4].read_bytes())
    reports: list[tuple[int, int, int]] = []
    found = plain(store, tmp_path).fields([*ids, "unknown"], lambda *report: reports.append((*report, 0)[:3]))
    assert found.unread == {"changed": 1, "missing": 3, "not_in_store": 1}
    assert set(found.rows) == set(ids[4:])
    assert len(found.values) == len(found.boxes) == len(ids) - 4
    assert all(done + failed <= total == len(ids) + 1 for done, total, failed in reports)
    assert reports[-1] == (len(ids) - 4, len(ids) + 1, 5)


def test_no_image_that_can_be_read_gives_no_field(tmp_path: Path) -> None:
    files = pictures(tmp_path / "images", 3)
    ids, store = ids_of(files), store_of(tmp_path / "store", files)
    for file in files:
        file.unlink()
    found = plain(store, tmp_path).fields(ids)
    assert (len(found.values), dict(found.rows), found.unread) == (0, {}, {"missing": 3})


@pytest.mark.parametrize("fails_after", [None, 0, 1, 2])
def test_nothing_is_left_in_the_folder_even_if_reading_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_after: int | None
) -> None:
    monkeypatch.setattr(patches, "SAMPLE_VALUES", 0)
    files = pictures(tmp_path / "images", 3 * BATCH)
    (tmp_path / "pairs").mkdir()
    source = plain(store_of(tmp_path / "store", files), tmp_path / "pairs", fails_after=fails_after)
    if fails_after is None:
        found = source.fields(ids_of(files))
        assert list((tmp_path / "pairs").iterdir()) == []
        assert np.isfinite(found.values).all()
        assert found.values.any(axis=(1, 2, 3)).all()
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            source.fields(ids_of(files))
    assert list((tmp_path / "pairs").iterdir()) == []


def test_failed_reading_stops_the_decoding_that_runs_ahead() -> None:
    made: list[int] = []

    def slow() -> Any:
        for number in range(1000):
            time.sleep(0.01)
            made.append(number)
            yield number

    ahead = patches._ahead(slow())
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert len(made) < 20


def test_items_made_ahead_keep_their_order_and_their_error() -> None:
    def failing() -> Any:
        yield from range(200)
        raise InputError("damaged")

    assert list(patches._ahead(range(200))) == list(range(200))
    assert list(patches._ahead([])) == []
    seen: list[int] = []
    with pytest.raises(InputError, match="damaged"):
        seen.extend(patches._ahead(failing()))
    assert seen == list(range(200))


class FullDisk(io.BytesIO):
    """A file on a full disk, which some systems tell of only when the file is closed."""

    def __init__(self, only_on_close: bool) -> None:
        super().__init__()
        self._only_on_close = only_on_close

    def write(self, content: Any, /) -> int:
        return len(content) if self._only_on_close else full()

    def close(self) -> None:
        full()


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("opened", [full, lambda *_: FullDisk(False), lambda *_: FullDisk(True)])
def test_full_disk_is_answered_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any]
) -> None:
    files = pictures(tmp_path / "images", 5)
    store = store_of(tmp_path / "store", files)
    whole = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened() if ".patch-tokens." in self.name else whole(self, *a, **k)
    )
    with pytest.raises(InputError) as refused:
        plain(store, tmp_path).fields(ids_of(files))
    assert str(refused.value).startswith(f"cannot map patch tokens at {tmp_path}: No space left on device; free ")
    assert str(refused.value).endswith(" GiB there, or leave out --differences")


def test_room_that_is_asked_for_is_a_plain_number() -> None:
    with pytest.raises(InputError, match="free 458 GiB there, or do without"):
        map_rows([], (10_000_000, 3, 256, AXES), Path("/nowhere"), "patch tokens", "do without")


def test_tokens_beyond_float16_stay_finite(tmp_path: Path) -> None:
    files = pictures(tmp_path / "images", 40)
    found = plain(store_of(tmp_path / "store", files), tmp_path, scale=1e6).fields(ids_of(files))
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(1, [0, 1]), (2, [0, 1]), (4, [0, 1, 2]), (12, [0, 3, 6]), (24, [0, 6, 12]), (40, [0, 10, 20])],
)
def test_blocks_are_the_first_a_quarter_and_the_half(depth: int, blocks: list[int]) -> None:
    assert blocks_to_compare(depth) == [Layer(index, norm=False) for index in blocks]


@pytest.mark.parametrize("rules", [("shortest", 32, "round"), ("shortest", 40, "floor"), ("squash", 32, "round")])
@pytest.mark.parametrize("shape", [(90, 90), (60, 200), (211, 64), (30, 33), (1, 1), (5, 900), (900, 5), (1, 47)])
def test_box_is_the_part_that_the_crop_shows(rules: tuple[Any, int, Any], shape: tuple[int, int]) -> None:
    resize, short_side, rounding = rules
    preprocess = Preprocess(32, resize, short_side, "bilinear", rounding, (0.5,) * 3, (0.5,) * 3)
    left, top, right, bottom = preprocess.seen(*shape)
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    for axis, (low, high) in enumerate([(top, bottom), (left, right)]):
        if shape[axis] < 30:
            continue  # no slope to read the place from
        # Brightness tells the place: 20 at the first pixel of this axis, 235 at the last.
        slope = 20 + 215 * (np.arange(shape[axis]) + 0.5) / shape[axis]
        pixels = np.broadcast_to(slope[:, None] if axis == 0 else slope[None], shape)
        square = preprocess.apply(np.repeat(np.rint(pixels).astype(np.uint8)[..., None], 3, axis=2))[0]
        line = square[:, 16] if axis == 0 else square[16]
        step = (high - low) / 32  # the first and the last place of the square are half a step inside of the box
        expected = [20 + 215 * (low + 1.5 * step), 20 + 215 * (high - 1.5 * step)]
        assert [float(line[1]), float(line[-2])] == pytest.approx(expected, abs=3)
