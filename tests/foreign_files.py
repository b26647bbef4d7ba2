"""Foreign benchmarks as their authors publish them, written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pictured_pairs import picture

from blindpairs.benchmark import Benchmark

BUTTERFLY = ("Are the butterfly's wings closer to being open or closed?", "(a) Open (b) Closed", "(a)", "(b)")
DOG = ("Is the dog facing left or right from the camera's perspective?", "(a) Right (b) Left", "(b)", "(a)")
KEY = ('Is there a "Z" key, or not?', "(a) Yes, there is (b) No", "(a)", "(b)")


def mmvp_table(asked: Sequence[tuple[str, str, str, str]], header: str = "Index") -> str:
    """`Questions.csv` of MMVP: two rows a pair, quoted as the csv module does."""
    lines = [f"{header},Question,Options,Correct Answer"]
    for place, (question, options, *answers) in enumerate(asked):
        cells = [
            cell if not set(cell) & set(',"') else '"' + cell.replace('"', '""') + '"' for cell in (question, options)
        ]
        lines += [f"{2 * place + side + 1},{cells[0]},{cells[1]},{answers[side]}" for side in (0, 1)]
    return "\n".join(lines) + "\n"


def write_mmvp(folder: Path, asked: Sequence[tuple[str, str, str, str]] = (BUTTERFLY, DOG, KEY)) -> Path:
    """A folder in the layout of MMVP."""
    images = folder / "MMVP Images"
    images.mkdir(parents=True)
    (folder / "Questions.csv").write_text(mmvp_table(asked), encoding="utf-8")
    for number in range(1, 2 * len(asked) + 1):
        (images / f"{number}.jpg").write_bytes(picture(number, size=(32, 32)))
    return folder


def write_mmvp_vlm(folder: Path, types: Mapping[str, int], images: str = "MLLM_VLM Images") -> Path:
    """A folder in the layout of MMVP-VLM; `types` has the number of pairs of each type, in order."""
    lines, number = ["Question ID,Type,Statement"], 0
    for kind, count in types.items():
        (folder / images / kind).mkdir(parents=True)
        for _ in range(2 * count):
            number += 1
            lines.append(f"{number},{kind},{'one' if number % 2 else 'two'} of pair {(number + 1) // 2}")
            (folder / images / kind / f"{number}.jpg").write_bytes(picture(number, size=(24, 24)))
    (folder / "Questions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def images_of(benchmark: Benchmark) -> dict[str, object]:
    """Every image of a benchmark by id."""
    return dict(benchmark.images(benchmark.image_ids))
