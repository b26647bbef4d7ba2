"""Patch tokens are the library's own at every layer, before and after the final norm, in the order of their grid.

Random weights in real classes of two blocks; the two encoders of the demo as they ship. The libraries' own ways of
handing out hidden states say what is right, to the bit.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from token_cases import CASES, Case, Theirs, assert_tokens_of, from_open_clip, from_transformers, noise
from torch import Tensor, nn

from blindpairs.encoders import Encoder, Layer, load_encoder
from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder

LAYERS = [Layer(index, norm) for index in (0, 1, 2, -1, -2, -3) for norm in (False, True)]
every_tower = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys(), indirect=True)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.save(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def encoder(case: Case, folder: Path) -> Encoder:
    """At a size other than the one in its configuration, and small."""
    return load_encoder("tower", f"{case.spec}{folder}?size={case.size}")


@pytest.fixture(autouse=True)
def no_hooks_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reading leaves the tower as it was."""
    yield
    encoder = request.node.funcargs.get("encoder")
    for part in encoder._tower.module.modules() if encoder else ():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def assert_all_layers(case: Case, encoder: Encoder, folder: Path, batch: Tensor) -> None:
    """Every layer, before and after the norm, from one pass and alone."""
    states, last, norm = case.theirs(folder, encoder._normalised(batch))
    assert len(states) == encoder.transformer.depth + 1
    grid = (batch.shape[2] // case.patch, batch.shape[3] // case.patch)
    found = encoder.tokens_of(batch, LAYERS)
    with torch.no_grad():
        for layer, tokens in zip(LAYERS, found, strict=True):
            expected = states[layer.index]
            assert_tokens_of(case, tokens, norm(expected) if layer.norm else expected, grid)
    alone = encoder.tokens(batch)
    assert_tokens_of(case, alone, last, grid)
    assert alone.patches.shape[2] == encoder.transformer.width


@every_tower
def test_tokens_of_every_layer_are_the_librarys_own(case: Case, folder: Path) -> None:
    native = load_encoder("tower", f"{case.spec}{folder}")
    assert_all_layers(case, native, folder, noise(1, 224, 224))


@every_tower
def test_tokens_at_another_size_are_the_librarys_own(case: Case, folder: Path, encoder: Encoder) -> None:
    assert_all_layers(case, encoder, folder, noise(2, case.size, case.size))


@every_tower
def test_image_that_is_not_square_has_its_own_grid_or_is_refused(case: Case, folder: Path, encoder: Encoder) -> None:
    height, width = 4 * case.patch, 5 * case.patch
    batch = noise(2, height, width)
    if encoder.transformer.any_size:
        states, last, _ = case.theirs(folder, encoder._normalised(batch))
        raw, normed = encoder.tokens_of(batch, [Layer(1, norm=False), Layer()])
        if case.spec == "hf:":
            assert_tokens_of(case, raw, states[1], (4, 5))
            assert_tokens_of(case, normed, last, (4, 5))
        else:  # built for another size, timm resamples positions in another order
            assert torch.allclose(raw.patches, states[1][:, case.prefix :], atol=1e-4)
        with pytest.raises(ConfigError) as refused:
            encoder.tokens(batch[..., 1:])
        assert str(refused.value).startswith(
            f"{encoder.spec}: images of {height} x {width - 1} are not whole patches of"
        )
    else:
        with pytest.raises(ConfigError) as refused:
            encoder.tokens(batch)
        assert str(refused.value) == (
            f"{encoder.spec}: it takes images of {case.size} x {case.size}, not of {height} x {width}; "
            "?size= loads it for another square"
        )


@every_tower
def test_bright_patch_moves_the_token_of_its_place(case: Case, encoder: Encoder) -> None:
    side, patch = case.size // case.patch, case.patch
    places = [(0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1), (1, side // 2)]
    batch = torch.zeros(len(places) + 1, 3, case.size, case.size, dtype=torch.uint8)
    for image, (row, column) in zip(batch, places, strict=False):
        image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 255
    for tokens in encoder.tokens_of(batch, [Layer(0, norm=False), Layer(1, norm=False), Layer()]):
        moved = (tokens.patches[:-1] - tokens.patches[-1]).norm(dim=2).argmax(dim=1)
        assert moved.tolist() == [row * tokens.grid[1] + column for row, column in places]


@every_tower
def test_tokens_of_an_image_do_not_depend_on_its_batch(case: Case, encoder: Encoder) -> None:
    batch = noise(3, case.size, case.size)
    together = encoder.tokens_of(batch, [Layer(1, norm=False), Layer()])
    for place in (0, 2):
        alone = encoder.tokens_of(batch[place : place + 1], [Layer(1, norm=False), Layer()])
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.allclose(one.patches, all_of_them.patches[place : place + 1], rtol=1e-4, atol=1e-4)


@every_tower
def test_pooled_vectors_are_pooled_tokens(case: Case, folder: Path, encoder: Encoder) -> None:
    batch = noise(2, case.size, case.size)
    tokens = encoder.tokens(batch)
    mean = load_encoder("tower", f"{case.spec}{folder}?pool=mean&size={case.size}")
    assert torch.equal(mean.encode(batch), unit(tokens.patches.mean(dim=1)))
    if tokens.class_token is None:
        with pytest.raises(ConfigError, match=r"this model has no pool=cls; it has \w+, mean$"):
            load_encoder("tower", f"{case.spec}{folder}?pool=cls")
    else:
        cls = load_encoder("tower", f"{case.spec}{folder}?pool=cls&size={case.size}")
        assert torch.equal(cls.encode(batch), unit(tokens.class_token))


def unit(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / norms


@pytest.mark.parametrize(
    ("name", "theirs"), [("clip", from_open_clip), ("dino", from_transformers)], ids=["clip", "dino"]
)
def test_demo_encoders_hand_out_their_tokens(name: str, theirs: Callable[[Path, Tensor], Theirs]) -> None:
    encoder = load_encoder(name, f"demo:{name}")
    batch = noise(2, 64, 64)
    states, last, _ = theirs(demo_folder() / name, encoder._normalised(batch))
    early, before, after = encoder.tokens_of(batch, [Layer(1, norm=False), Layer(norm=False), Layer()])
    assert (early.grid, early.patches.shape, encoder.transformer.depth) == ((8, 8), (2, 64, 128), 4)
    assert [torch.equal(one.patches, state[:, 1:]) for one, state in ((early, states[1]), (before, states[-1]))] == [
        True,
        True,
    ]
    assert torch.equal(after.patches, last[:, 1:])


@pytest.fixture
def dino() -> Encoder:
    return load_encoder("dino", "demo:dino")


def test_several_layers_take_one_forward_pass(dino: Encoder) -> None:
    passes: list[int] = []
    handle = dino.transformer.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    dino.tokens_of(noise(2, 64, 64), [Layer(), Layer(1), Layer(1, norm=False), Layer(-2), Layer(0)])
    handle.remove()
    assert passes == [1]


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        ([Layer(0, norm=False)], []),
        ([Layer(2, norm=False), Layer(0), Layer(1)], [0, 1]),
        ([Layer(-2)], [0, 1, 2]),
        ([Layer(0), Layer(4, norm=False)], [0, 1, 2, 3]),
        ([Layer(1), Layer()], [0, 1, 2, 3]),
    ],
)
def test_forward_ends_with_the_last_layer_that_is_read(dino: Encoder, layers: list[Layer], blocks: list[int]) -> None:
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(dino.transformer.blocks)
    ]
    dino.tokens_of(noise(1, 64, 64), layers)
    for handle in handles:
        handle.remove()
    assert ran == blocks


@every_tower
def test_forward_that_ends_early_gives_the_same_bits_and_leaves_no_trace(case: Case, encoder: Encoder) -> None:
    batch = noise(2, case.size, case.size)
    vectors = encoder.encode(batch)
    early = [Layer(index, norm) for index in (1, 0) for norm in (False, True)]
    ran: list[int] = []
    handle = encoder.transformer.blocks[-1].register_forward_hook(lambda *_: ran.append(1))
    found = encoder.tokens_of(batch, early)
    assert ran == []
    whole = encoder.tokens_of(batch, [*early, Layer()])
    handle.remove()
    assert ran == [1]
    for one, other in zip(found, whole[:-1], strict=True):
        assert torch.equal(one.patches, other.patches)
        assert (one.class_token is None) == (other.class_token is None)
        assert one.class_token is None or torch.equal(one.class_token, other.class_token)  # type: ignore[arg-type]
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.equal(encoder.encode(batch), vectors)


def test_forward_that_ends_early_under_autocast_reads_bad_rows_again(dino: Encoder) -> None:
    batch, layers = noise(3, 64, 64), [Layer(0, norm=False), Layer(1, norm=False)]
    expected = dino.tokens_of(batch, layers)
    calls: list[int] = []

    def overflow(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        calls.append(len(output))
        return torch.full_like(output, torch.inf) if torch.is_autocast_enabled("cpu") else output

    handle = dino.transformer.blocks[0].register_forward_hook(overflow)
    dino._autocast = True
    found = dino.tokens_of(batch, layers)
    handle.remove()
    assert calls == [3, 3]
    assert all(torch.equal(one.patches, theirs.patches) for one, theirs in zip(found, expected, strict=True))
    assert not torch.is_autocast_enabled("cpu")


def test_failed_reading_leaves_no_hook_behind(dino: Encoder) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = dino.transformer.blocks[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        dino.tokens_of(noise(1, 64, 64), [Layer(0), Layer(1), Layer(4, norm=False)])
    handle.remove()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in dino._tower.module.modules())


@pytest.mark.parametrize("layers", [(1, 1), (1, -1), (0, 3)])
def test_threads_that_share_an_encoder_read_their_own_tokens(dino: Encoder, layers: tuple[int, int]) -> None:
    batches = [noise(1, 64, 64), 255 - noise(1, 64, 64)]
    alone = [dino.tokens(batch, layer, norm=False).patches for batch, layer in zip(batches, layers, strict=True)]
    both = threading.Barrier(2, timeout=60)

    def meet(*_: object) -> None:
        both.wait()

    handle = dino.transformer.blocks[0].register_forward_pre_hook(meet)  # before any of them ends its forward
    found: dict[int, Tensor] = {}

    def read(place: int) -> None:
        found[place] = dino.tokens(batches[place], layers[place], norm=False).patches

    threads = [threading.Thread(target=read, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handle.remove()
    assert all(torch.allclose(found[place], alone[place], atol=1e-6) for place in range(2))
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_what_is_trained_on_top_of_tokens_has_a_backward_pass(dino: Encoder) -> None:
    adapter = nn.Linear(128, 4)
    tokens = dino.tokens(noise(2, 64, 64), -2, norm=False)
    assert tokens.class_token is not None
    assert not tokens.patches.is_inference()  # as they are strided, a linear layer would copy them and not complain
    (adapter(tokens.patches).square().mean() + adapter(tokens.class_token).square().mean()).backward()
    assert adapter.weight.grad is not None
    assert all(parameter.grad is None for parameter in dino._tower.module.parameters())


def test_rows_that_overflow_under_autocast_are_read_once_more_in_float32(dino: Encoder) -> None:
    batch = noise(3, 64, 64)
    layers = [Layer(1, norm=False), Layer()]
    expected = dino.tokens_of(batch, layers)
    calls: list[int] = []

    def overflow(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        calls.append(len(output))
        output = output.clone()
        if torch.is_autocast_enabled("cpu"):
            output[1, 5] = torch.inf
        return output

    handle = dino.transformer.blocks[3].register_forward_hook(overflow)
    dino._autocast = True
    found = dino.tokens_of(batch, layers)
    handle.remove()
    assert calls == [3, 1]
    for one, theirs in zip(found, expected, strict=True):
        assert torch.isfinite(one.patches).all()
        assert torch.allclose(one.patches[1], theirs.patches[1], atol=1e-5)


@pytest.mark.parametrize("index", [5, 9, -6])
def test_layer_that_is_not_there_is_refused_with_those_that_are(dino: Encoder, index: int) -> None:
    with pytest.raises(ConfigError) as refused:
        dino.tokens(noise(1, 64, 64), index)
    assert str(refused.value) == f"demo:dino: there is no layer {index}; layers are 0 to 4, or -5 to -1"
