"""The C code of the join: built once, loaded only if it is ours, done without where it cannot be built, and clean.

That it finds the same pairs as float64 brute force, for every processor that it is built for, is in test_join.py.
"""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blindpairs.cores import Cores
from blindpairs.selfjoin import (
    Hardware,
    JoinPlan,
    PairBlock,
    UnitRows,
    compiler,
    pair_cosines,
    plan_join,
    similar_pairs,
)
from blindpairs.selfjoin.c_interface import SOURCE
from blindpairs.selfjoin.compiler import NotCompiled, build
from blindpairs.selfjoin.join import prepare, tasks_of

CC = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(CC is None, reason="there is no C compiler here")

JOIN = """
import sys, torch
from blindpairs.selfjoin import JoinPlan, UnitRows, plan_join, similar_pairs
from blindpairs.selfjoin.compiler import compiled_code
sys.stdout.write(f"{compiled_code() and compiled_code().kind}\\n")
for count, dimension, half, minimum in ((700, 40, True, 0.9), (333, 7, False, -1.0), (257, 129, True, 0.2)):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(count, dimension, generator=generator) + torch.randn(dimension, generator=generator)
    vectors = vectors.half() if half else vectors
    others = torch.randn(count, 5, generator=generator)
    for plan in (None, JoinPlan(dimensions=7, cell_rows=16, span_rows=32, block_pairs=50)):
        found = sorted(
            (i, j)
            for block in similar_pairs(vectors, minimum, plan=plan, other=UnitRows(others))
            for i, j in zip(block.i.tolist(), block.j.tolist())
        )
        sys.stdout.write(f"{len(found)} {hash(tuple(found))}\\n")
"""


def joined(environment: dict[str, str], code: str = JOIN) -> list[str]:
    """The output's lines of a fresh process that joins small data."""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "blindpairs"


def commands_run(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The compiler's commands from now on."""
    commands: list[list[str]] = []
    run = compiler._run

    def noted(command: list[str]) -> str:
        commands.append(command)
        return run(command)

    monkeypatch.setattr(compiler, "_run", noted)
    return commands


def test_second_process_takes_the_code_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    (file,) = cache.iterdir()
    commands = commands_run(monkeypatch)
    build()
    assert not [command for command in commands if "-shared" in command]
    assert list(cache.iterdir()) == [file]


def test_another_source_or_processor_gets_code_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(variants=[("-DFLOAT32",)])
    changed = tmp_path / "compiled.c"
    changed.write_text(SOURCE.read_text() + "\nint one_more(void) { return 1; }\n")
    monkeypatch.setattr(compiler, "SOURCE", changed)
    code = build(variants=[("-DFLOAT32",)])
    assert code.library.one_more() == 1
    assert len(list(cache.iterdir())) == 2


def test_threads_and_processes_that_need_the_code_at_once_get_the_same(cache: Path) -> None:
    code = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from blindpairs.selfjoin.compiler import compiled_code
barrier = threading.Barrier(4)
with ThreadPoolExecutor(4) as pool:
    kinds = list(pool.map(lambda _: (barrier.wait(), compiled_code())[1].kind, range(4)))
sys.stdout.write(f"{sorted(set(kinds))} {len(kinds)}")
"""
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=own, stdout=subprocess.PIPE) for _ in range(2)]
    said = {process.communicate()[0].decode() for process in processes}
    assert said == {f"['{build().kind}'] 4"}
    assert [file.suffix for file in cache.iterdir()] == [".so"]


def replaced(file: Path, content: bytes) -> None:
    """Another file of that name. Written in place, the old one, which this process has loaded, would end it."""
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("left", [0, 100])
def test_library_that_a_power_failure_cut_short_is_built_again(cache: Path, left: int) -> None:
    joined({}, "from blindpairs.selfjoin.compiler import build; build()")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    assert build().kind
    assert len(file.read_bytes()) == len(whole)


def test_library_in_a_folder_that_others_may_write_to_is_not_loaded(cache: Path) -> None:
    build()
    (planted,) = cache.iterdir()
    replaced(planted, b"not ours")
    cache.chmod(0o777)
    assert build().kind
    assert planted.read_bytes() == b"not ours"


def test_cache_folder_that_cannot_be_made_costs_nothing_but_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build().kind


def test_user_without_a_home_gets_the_code_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert build().kind


def test_relative_cache_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert build().kind
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_compiler_may_come_with_arguments(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{CC} -DONE=1")
    assert build().kind
    assert len(list(cache.iterdir())) == 1


def test_library_of_that_name_that_is_something_else_is_built_again(cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.c"
    other.write_text("int nothing_of_ours(void) { return 1; }\n")
    joined({}, "from blindpairs.selfjoin.compiler import build; build()")
    (file,) = cache.iterdir()
    subprocess.run([str(CC), "-shared", "-fPIC", "-o", str(tmp_path / "other.so"), str(other)], check=True)
    (tmp_path / "other.so").replace(file)
    assert build().kind


def test_cache_folder_is_for_its_owner_alone(cache: Path) -> None:
    build()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_without_a_compiler_torch_finds_the_same_pairs(tmp_path: Path) -> None:
    own = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONHASHSEED": "0"}
    kind, *found = joined(own)
    assert kind in ("amx", "avx512-bf16", "float32")
    assert joined({**own, "CC": "no-such-compiler"}) == ["None", *found]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'error: no space left' >&2; exit 1", "no space left"),
        ("echo 'In file included from' >&2; echo 'x.c: error: no header' >&2; exit 1", "no header"),
        ("echo >&2; exit 1", "returned non-zero exit status 1"),
        ("kill -9 $$", "SIGKILL"),
        ("exit 0", "cannot build"),
        (r"printf '\351\377 is wrong' >&2; exit 1", "is wrong"),
    ],
)
def test_compiler_that_fails_is_told_and_done_without(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(NotCompiled, match=said):
        build()
    assert not cache.exists() or not list(cache.iterdir())


def test_missing_compiler_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NotCompiled, match=r"no-such-compiler.*install gcc or clang"):
        build()


@pytest.mark.parametrize(
    ("theirs", "other"),
    [
        ("    int64_t is_float16;", "    int64_t is_float16, another;"),  # a field more
        ("    const float *lengths;  /* (rows) */\n    const double *squares;", "    const double *squares;"),
        ("    int64_t columns;\n    float reach;", "    float reach;\n    int64_t columns;"),  # another order
        ("    double minimum;", "    float minimum;"),  # another type
        ("    int64_t capacity;", "    double capacity;"),  # of the same size
        ("#define PANEL 16 ", "#define PANEL 32 "),
        ("#define MAX_COLUMNS 128 ", "#define MAX_COLUMNS 64 "),
        ("#define ACCUMULATORS 128 ", "#define ACCUMULATORS 64 "),
    ],
)
def test_library_with_another_struct_or_constant_is_refused_and_torch_does_the_join(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, other: str
) -> None:
    changed, source = tmp_path / "compiled.c", SOURCE.read_text()
    assert theirs in source
    source = source.replace(theirs, other, 1)
    if "lengths" in theirs:
        source = source.replace("FIELD(rows_t, lengths), ", "").replace("rows->lengths", "(float)rows->squares")
    changed.write_text(source)
    monkeypatch.setattr(compiler, "SOURCE", changed)
    with pytest.raises(NotCompiled, match=r"has another memory layout than c_interface\.py \(\w+"):
        build(variants=[("-DFLOAT32",)])
    assert not list(cache.iterdir())
    monkeypatch.setattr(compiler, "_built_once", compiler._built_once.__wrapped__)
    told: list[str] = []
    hardware = Hardware("cpu", told.append)
    vectors = torch.nn.functional.normalize(torch.ones(5, 3))
    assert sum(map(len, similar_pairs(vectors, 0.9, hardware=hardware))) == 10
    assert sum(map(len, similar_pairs(vectors, 0.9, hardware=hardware))) == 10
    assert hardware.engines() == "torch"
    assert [line.startswith((os.environ.get("CC", "cc"), "cc")) for line in told] == [True]
    assert "memory layout" in told[0]
    assert told[0].endswith("torch compares the pairs, which takes two to four times as long")


def test_cached_library_with_another_layout_is_built_again(cache: Path, tmp_path: Path) -> None:
    script = "from blindpairs.selfjoin.compiler import build; build()"
    joined({}, script)
    (file,) = cache.iterdir()
    changed = tmp_path / "changed.c"
    changed.write_text(SOURCE.read_text().replace("    int64_t is_float16;", "    int64_t is_float16, another;", 1))
    subprocess.run([str(CC), "-O1", "-shared", "-fPIC", "-o", str(tmp_path / "x.so"), str(changed), "-lm"], check=True)
    (tmp_path / "x.so").replace(file)
    assert build().kind


def test_without_compiled_code_nothing_is_compiled_loaded_or_called(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = torch.randn(300, 30, generator=torch.Generator().manual_seed(0)).half()
    i, j = torch.triu_indices(300, 300, 1)
    with_code = sorted((a, b) for block in similar_pairs(vectors, 0.2) for a, b in zip(*pair_lists(block), strict=True))
    ready = UnitRows(vectors)  # made with compiled code, joined without
    cosines = pair_cosines(ready, i, j)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("compiled code is not to be used")

    monkeypatch.setattr(compiler, "_built_once", refused)
    monkeypatch.setattr(ctypes, "CDLL", refused)
    if ready.code is not None:
        ready.code = replace(ready.code, library=None)  # type: ignore[arg-type]
    hardware = Hardware("cpu", compiled=False)
    rows = UnitRows(vectors, compiled=False)
    for given in (vectors, vectors.numpy(), rows, ready):
        for plan in (None, JoinPlan(dimensions=7, cell_rows=16, span_rows=32), plan_join(rows, 0.2)):
            blocks = list(similar_pairs(given, 0.2, other=ready, plan=plan, hardware=hardware))
            assert sorted((a, b) for block in blocks for a, b in zip(*pair_lists(block), strict=True)) == with_code
    assert torch.equal(pair_cosines(rows, i, j), cosines)
    assert rows.part(50, 0).code is None
    assert hardware.engines() == "torch"


def pair_lists(block: PairBlock) -> tuple[list[int], list[int]]:
    return block.i.tolist(), block.j.tolist()


@pytest.mark.parametrize(
    "flags",
    [
        (compiler.TARGET,),
        (compiler.TARGET, "-DFLOAT32"),
        ("-march=x86-64",),
        ("-march=sapphirerapids",),
        ("-march=sapphirerapids", "-mno-amx-bf16", "-DFORCE_AVX512_BF16"),
    ],
)
def test_source_compiles_without_a_warning_for_this_processor_and_others(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    if subprocess.run([str(CC), *flags, "-E", "-x", "c", os.devnull], capture_output=True, check=False).returncode:
        pytest.skip(f"this compiler knows no {flags[0]}")
    command = [str(CC), "-O3", *flags, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-psabi"]
    done = subprocess.run(
        [*command, "-fPIC", "-c", str(SOURCE), "-o", str(tmp_path / "x.o")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def sanitizer() -> str:
    """The address sanitizer's library of GCC, to be loaded before anything else; "" where there is none."""
    macros = subprocess.run(
        [str(CC), "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=False
    ).stdout
    if "__clang__" in macros:  # finds GCC's, which its own code cannot use
        return ""
    said = subprocess.run([str(CC), "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    path = said.stdout.strip()
    return path if Path(path).is_absolute() and Path(path).exists() else ""


@pytest.mark.parametrize("variant", [(), ("-DFLOAT32",)])
def test_no_byte_outside_of_an_array_is_touched(tmp_path: Path, variant: tuple[str, ...]) -> None:
    library = sanitizer() if CC else ""
    if not library:
        pytest.skip("this compiler has no address sanitizer")
    code = f"""
from blindpairs.cores import Cores
from blindpairs.selfjoin import JoinPlan, UnitRows, compiler
compiler.FLAGS = (*compiler.FLAGS, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
compiler.VARIANTS = ({variant!r},)
build = compiler.build
compiler.build = lambda: build(variants=compiler.VARIANTS)
{JOIN}
assert compiled_code() is not None
"""
    own = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONHASHSEED": "0"}
    plain = joined(own)
    checked = joined({**own, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"}, code)
    assert checked[1:] == plain[1:]


def test_torch_products_between_the_tasks_of_a_thread_stay_right() -> None:
    # oneDNN sets up AMX's tiles for itself and believes them still so; a task has to leave them as they were.
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 500, 96, generator=generator).bfloat16()
    wanted = (left.double() @ right.double().T).float()
    rows = UnitRows(torch.randn(600, 40, generator=generator))
    with Cores(rows.device) as cores:
        prepared = prepare(rows, 0.6, cores, plan=JoinPlan(dimensions=36, cell_rows=20))
    found = 0
    for task in tasks_of(prepared):
        assert torch.allclose((left @ right.T).float(), wanted, rtol=0.02, atol=0.02)
        blocks, rest = prepared.engine.run(task)
        assert rest is None
        found += sum(map(len, blocks))
    unit = torch.nn.functional.normalize(rows.vectors)
    assert found == int(((unit @ unit.T).triu(1) >= 0.6).sum()) > 0
