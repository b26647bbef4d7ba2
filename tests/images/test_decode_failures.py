"""Every image that cannot be used fails as itself: by a stable code, without a crash, a warning or a memory spike."""

import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import bad_files as make
import numpy as np
import pytest
from PIL import Image

from blindpairs.errors import Undecodable
from blindpairs.images import decode as decoding
from blindpairs.images.decode import Limits, decode


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def refusal(data: bytes, limits: Limits = Limits()) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(data, limits)
    assert caught.value.message
    return caught.value


def test_a_file_without_bytes_is_empty() -> None:
    assert refusal(b"").code == "empty"


@pytest.mark.parametrize(
    ("data", "guess"),
    [(make.ERROR_PAGE, "HTML"), (make.ERROR_ANSWER, "JSON"), (b"hello", "text"), (bytes(99), "00 00")],
)
def test_an_error_page_named_like_an_image_is_not_an_image_and_the_message_says_what_it_is(
    data: bytes, guess: str
) -> None:
    error = refusal(data)
    assert error.code == "not_image"
    assert guess in error.message


def test_a_text_that_begins_like_a_bitmap_is_no_image() -> None:
    assert refusal(b"BMW announced on Monday that its factories will").code == "not_image"


@pytest.mark.parametrize("side", [64, 240])  # one size for each decoder
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_cut_in_half_is_truncated_and_never_filled_with_grey(side: int, options: dict[str, bool]) -> None:
    data = make.jpeg(side, side, **options)
    assert refusal(data[: len(data) // 2]).code == "truncated"


def test_a_jpeg_without_its_last_200_bytes_is_truncated_unless_allowed_and_then_flagged() -> None:
    data = make.jpeg(240, 240)
    assert refusal(data[:-200]).code == "truncated"
    decoded = decode(data[:-200], Limits(allow_truncated=True))
    assert decoded.flags == ("truncated",)
    assert np.array_equal(decoded.pixels[:120], decode(data).pixels[:120])
    assert decode(data, Limits(allow_truncated=True)).flags == ()


def test_allowing_truncated_files_changes_nothing_for_later_ones() -> None:
    data = make.jpeg()
    decode(data[:-20], Limits(allow_truncated=True))
    assert refusal(data[:-20]).code == "truncated"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_jpeg_of_only_a_header_is_truncated(allowed: bool) -> None:
    data = make.jpeg()
    assert refusal(data[: data.index(b"\xff\xda")], Limits(allow_truncated=allowed)).code == "truncated"
    assert refusal(data[:20], Limits(allow_truncated=allowed)).code == "truncated"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"])
def test_a_file_cut_in_half_is_truncated_in_every_format(kind: str) -> None:
    data = make.saved(Image.fromarray(make.scene()), kind)
    assert refusal(data[: len(data) // 2]).code in {"truncated", "corrupt"}
    if kind not in {"AVIF", "TIFF"}:  # these two keep no simple mark of their end
        assert refusal(data[: len(data) // 2]).code == "truncated"


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy with flipped bits, or bytes lost, put in, blanked or doubled, or its end cut off."""
    found = bytearray(data)
    at = chance.randrange(2, len(found))
    match chance.randrange(6):
        case 0:
            del found[at:]
        case 1:
            del found[at : at + 20]
        case 2:
            found[at:at] = chance.randbytes(9)
        case 3:
            found[at : at + 20] = bytes(20)
        case 4:
            found[at:at] = found[at : at + 90]
        case _:
            for _ in range(chance.choice([1, 1, 4, 20])):
                found[chance.randrange(2, len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def test_damaged_jpegs_get_one_verdict_and_one_set_of_pixels_from_both_decoders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "FAST_PATH_PIXELS", 0)
    chance = random.Random(0)
    sound = [make.jpeg(96, 80), make.jpeg(96, 80, progressive=True), make.oriented("JPEG", make.scene(96, 80), 6)]
    outcomes = {"same": 0, "corrupt": 0}
    for _ in range(400):
        data = mutated(chance.choice(sound), chance)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(decoding, "_torchcodec", lambda: None)
            slow = verdict(data)
        fast = verdict(data)
        if isinstance(slow, str) or isinstance(fast, str):
            assert fast == slow
            outcomes["corrupt"] += slow == "corrupt"
        else:
            assert np.array_equal(fast, slow)
            outcomes["same"] += 1
    assert outcomes["same"] > 100
    assert outcomes["corrupt"] > 10


def verdict(data: bytes) -> make.Pixels | str:
    try:
        return decode(data).pixels
    except Undecodable as error:
        return error.code


SURVIVE = """
import random, sys
sys.path[:0] = sys.argv[1:]
import bad_files as make
from test_decode_failures import mutated, verdict
chance = random.Random(1)
sound = [make.png(), make.png(optimize=True), make.animation("PNG"), make.animation("GIF"), make.animation("WEBP")]
sound += [make.animation("TIFF"), make.oriented("AVIF", make.scene(), 6)]
print(sum(isinstance(verdict(mutated(chance.choice(sound), chance)), str) for _ in range(600)))
"""


def test_damaged_pngs_and_other_formats_never_kill_the_process(request: pytest.FixtureRequest) -> None:
    folders = map(str, request.path.parents[:2])  # these tests, and what they share with others
    run = subprocess.run([sys.executable, "-c", SURVIVE, *folders], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 200


def test_a_png_with_a_wrong_checksum_or_pixel_stream_is_corrupt() -> None:
    data = make.png()
    at = data.index(b"IDAT")
    assert refusal(data[: at + 20] + b"\xff\x00\xff\x00" + data[at + 24 :]).code == "corrupt"
    header = data.index(b"IHDR")
    assert refusal(data[: header + 13] + b"\x07" + data[header + 14 :]).code == "corrupt"


MEASURE = """
import resource, sys
sys.path[:0] = sys.argv[1:]
import bad_files as make
from blindpairs.images.decode import decode
from blindpairs.errors import Undecodable
decode(make.png())
bombs = {"PNG": make.png_bomb(), "JPEG": make.with_jpeg_size(make.jpeg(), 60_000, 60_000)}
bombs["TIFF"] = make.with_tiff_size(make.animation("TIFF"), 60_000, 60_000)
bombs["PNM"] = b"P6 60000 60000 255\\n" + bytes(100)
bombs["GIF"] = make.animation("GIF")[:6] + b"\\xff" * 4 + make.animation("GIF")[10:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for kind, data in bombs.items():
    try:
        decode(data)
    except Undecodable as error:
        print(kind, error.code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 50)
"""


def test_decompression_bombs_are_refused_from_their_header_within_50_mb(request: pytest.FixtureRequest) -> None:
    folders = map(str, request.path.parents[:2])
    run = subprocess.run([sys.executable, "-c", MEASURE, *folders], capture_output=True, text=True, timeout=120)
    refused = [f"{kind} too_many_pixels" for kind in ("PNG", "JPEG", "TIFF", "PNM", "GIF")]
    assert (run.stdout.splitlines(), run.stderr) == ([*refused, "True"], "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_the_pixel_limit_holds_in_every_format(kind: str) -> None:
    data = make.saved(Image.fromarray(make.scene(40, 60)), kind)
    assert refusal(data, Limits(max_pixels=2399)).code == "too_many_pixels"
    assert decode(data, Limits(max_pixels=2400)).width == 60


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"}])
def test_the_pixel_limit_holds_in_every_kind_of_webp(options: dict[str, bool]) -> None:
    data = make.saved(Image.fromarray(make.scene(40, 60)), "WEBP", **options)
    assert refusal(data, Limits(max_pixels=2399)).message == "60 x 40 pixels; the limit is 2,399"


@pytest.mark.parametrize("bomb", [make.text_bomb, make.profile_bomb])
def test_a_text_or_profile_that_unpacks_to_64_mib_is_a_metadata_bomb(bomb: Callable[[], bytes]) -> None:
    assert refusal(bomb()).code == "metadata_bomb"


@pytest.mark.parametrize(("name", "data"), make.unsupported().items())
def test_formats_that_are_not_read_are_named_with_what_to_do(name: str, data: bytes) -> None:
    error = refusal(data)
    assert error.code == "unsupported_format"
    assert error.message == f"{name} is not read: convert it to JPEG, PNG or WebP"


def test_the_preview_in_a_cameras_raw_file_does_not_pass_for_the_photo() -> None:
    data = make.saved(Image.fromarray(make.scene()), "TIFF", tiffinfo={254: 1})
    assert refusal(data).code == "unsupported_format"


def test_documents_never_reach_a_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("os.system", refuse)
    for name in ("EPS", "PDF", "SVG"):
        assert refusal(make.unsupported()[name]).code == "unsupported_format"


def test_a_git_lfs_pointer_is_named_with_the_command_that_fetches_it() -> None:
    error = refusal(make.LFS_POINTER)
    assert error.code == "lfs_pointer"
    assert "git lfs pull" in error.message


def test_any_bytes_at_all_end_in_pixels_or_a_verdict() -> None:
    chance = random.Random(2)
    magics = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\x00",
        b"MM\x00*",
        b"RIFF....WEBPVP8 ",
        b"P6 9 9 255\n",
    ]
    magics += [b"\x00\x00\x00\x1cftypavif", b"BM" + bytes(12) + b"\x28\x00\x00\x00"]
    for _ in range(1500):
        assert isinstance(verdict(chance.choice(magics) + chance.randbytes(chance.randrange(200))), str | np.ndarray)
