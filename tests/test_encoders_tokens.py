"""Patch tokens are the library's own at every layer, before and after the final norm, in the order of their grid.

Random weights in real classes of two blocks; the two encoders of the demo as they ship. The libraries' own ways of
handing out hidden states say what is right, to the bit.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hub_folders as hub
import pytest
import torch
from torch import Tensor, nn

from blindpairs.encoders import Encoder, Layer, Tokens, load_encoder
from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder

LAYERS = [Layer(index, norm) for index in (0, 1, 2, -1, -2, -3) for norm in (False, True)]
Theirs = tuple[list[Tensor], Tensor, nn.Module]  # raw hidden states of all tokens, the last normed, the norm


@dataclass(frozen=True)
class Case:
    """An architecture: how it is saved, what the spec puts before the folder, what the library says."""

    save: Callable[[Path], Path]
    spec: str
    theirs: Callable[[Path, Tensor], Theirs]
    patch: int
    prefix: int
    class_token: bool
    size: int  # another multiple of the patch than its native 224


@torch.no_grad()
def from_transformers(folder: Path, pixels: Tensor) -> Theirs:
    """`output_hidden_states=True` and `last_hidden_state`, which CLIP alone hands over before its norm."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vision = getattr(model, "vision_model", model)
    is_dino = model.config.model_type.startswith("dino")
    options = {} if is_dino else {"interpolate_pos_encoding": True}
    output = vision(pixel_values=pixels, output_hidden_states=True, **options)
    norms = [getattr(vision, name, None) for name in ("post_layernorm", "layernorm", "norm")]
    norm = next(one for one in norms if one is not None)
    last = output.last_hidden_state
    return list(output.hidden_states), norm(last) if "clip" in model.config.model_type else last, norm


@torch.no_grad()
def from_timm(trunk: Any, pixels: Tensor) -> Theirs:
    """`forward_intermediates`, and `forward_features` for the last; the embeddings as its first block sees them."""
    given: list[Tensor] = []
    hook = trunk.blocks[0].register_forward_pre_hook(lambda _module, arguments: given.append(arguments[0]))
    final, found = trunk.forward_intermediates(pixels, output_fmt="NLC", return_prefix_tokens=True)
    hook.remove()
    joined = [torch.cat([one[1], one[0]], dim=1) if isinstance(one, tuple) else one for one in found]
    return [given[0], *joined], final, trunk.norm


def from_timm_folder(folder: Path, pixels: Tensor) -> Theirs:
    import timm

    options = {} if pixels.shape[-1] == 224 else {"img_size": tuple(pixels.shape[-2:])}
    return from_timm(timm.create_model(f"local-dir:{folder}", pretrained=True, **options).eval(), pixels)


@torch.no_grad()
def from_open_clip(folder: Path, pixels: Tensor) -> Theirs:
    """`visual.forward_intermediates`; the last normed as the tower's own forward hands it out."""
    import open_clip

    options = {"force_image_size": pixels.shape[-1]} if pixels.shape[-1] != 224 else {}
    visual: Any = open_clip.create_model(f"local-dir:{folder}", **options).eval().requires_grad_(False).visual
    if hasattr(visual, "trunk"):
        return from_timm(visual.trunk, pixels)
    found = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    raw = [
        torch.cat(pair, dim=1)
        for pair in zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    ]
    visual.output_tokens = True
    last = torch.cat([visual.ln_post(raw[-1][:, :1]), visual(pixels)[1]], dim=1)
    return [visual._embeds(pixels), *raw], last, visual.ln_post


NARROW_DINOV2 = partial(hub.save_dinov2, shape=hub.NARROW)
NARROW_CLIP = partial(hub.save_clip, shape=hub.NARROW)
OPEN_CLIP = partial(hub.save_open_clip, model_cfg=hub.SMALL_14, preprocess_cfg=hub.OPENAI)
OPEN_CLIP_TIMM = partial(hub.save_open_clip, model_cfg=hub.SIGLIP, preprocess_cfg=hub.SQUASH)


def timm_saver(name: str) -> Callable[[Path], Path]:
    return partial(hub.save_timm, name=name, depth=2, img_size=224)


CASES = {
    "hf-dinov2": Case(NARROW_DINOV2, "hf:", from_transformers, 14, 1, True, 112),
    "hf-dinov2-registers": Case(hub.save_dinov2_with_registers, "hf:", from_transformers, 14, 5, True, 112),
    "hf-dinov3": Case(hub.save_dinov3, "hf:", from_transformers, 16, 5, True, 112),
    "hf-vit": Case(hub.save_vit, "hf:", from_transformers, 16, 1, True, 112),
    "hf-clip": Case(NARROW_CLIP, "hf:", from_transformers, 14, 1, True, 112),
    "hf-clip-vision": Case(hub.save_clip_vision, "hf:", from_transformers, 14, 1, True, 112),
    "hf-siglip": Case(hub.save_siglip, "hf:", from_transformers, 16, 0, False, 112),
    "open_clip": Case(OPEN_CLIP, "open_clip:local-dir:", from_open_clip, 14, 1, True, 112),
    "open_clip-timm": Case(OPEN_CLIP_TIMM, "open_clip:local-dir:", from_open_clip, 16, 1, True, 112),
    "timm-vit": Case(timm_saver("vit_tiny_patch16_224"), "timm:local-dir:", from_timm_folder, 16, 1, True, 112),
    "timm-distilled": Case(
        timm_saver("deit_tiny_distilled_patch16_224"), "timm:local-dir:", from_timm_folder, 16, 2, True, 112
    ),
    "timm-registers": Case(
        timm_saver("vit_small_patch14_reg4_dinov2"), "timm:local-dir:", from_timm_folder, 14, 5, True, 112
    ),
    "timm-dinov3": Case(timm_saver("vit_small_patch16_dinov3"), "timm:local-dir:", from_timm_folder, 16, 5, True, 112),
    "timm-siglip": Case(
        timm_saver("vit_base_patch16_siglip_224"), "timm:local-dir:", from_timm_folder, 16, 0, False, 112
    ),
    "timm-hybrid": Case(timm_saver("vit_tiny_r_s16_p8_224"), "timm:local-dir:", from_timm_folder, 32, 1, True, 96),
}
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


def noise(images: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * images + width)
    return torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=generator)


def assert_tokens_of(case: Case, tokens: Tokens, theirs: Tensor, grid: tuple[int, int]) -> None:
    assert tokens.grid == grid
    assert tokens.patches.dtype == torch.float32
    assert tokens.patches.shape[1] == grid[0] * grid[1]
    assert torch.equal(tokens.patches, theirs[:, case.prefix :])
    assert (tokens.class_token is not None) == case.class_token
    if tokens.class_token is not None:
        assert torch.equal(tokens.class_token, theirs[:, 0])


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
            f"{encoder.spec}: images of {height} x {width - 1} are no whole patches of"
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


def test_failed_reading_leaves_no_hook_behind(dino: Encoder) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = dino.transformer.blocks[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        dino.tokens_of(noise(1, 64, 64), [Layer(0), Layer(1), Layer(4, norm=False)])
    handle.remove()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in dino._tower.module.modules())


def test_threads_that_share_an_encoder_read_their_own_tokens(dino: Encoder) -> None:
    batches = [noise(1, 64, 64), 255 - noise(1, 64, 64)]
    alone = [dino.tokens(batch, 1, norm=False).patches for batch in batches]
    both = threading.Barrier(2, timeout=60)

    def meet(*_: object) -> None:
        both.wait()

    handle = dino.transformer.blocks[1].register_forward_pre_hook(meet)
    found: dict[int, Tensor] = {}

    def read(place: int) -> None:
        found[place] = dino.tokens(batches[place], 1, norm=False).patches

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
    assert str(refused.value) == f"demo:dino: there is no layer {index}; there is 0 to 4, or -5 to -1"


NO_PATCHES = (
    "this encoder has no patch tokens; choose a plain vision transformer, such as open_clip:ViT-B-16/openai "
    "or hf:facebook/dinov2-base"
)
RESNET = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": hub.TINY_TEXT,
}
CONVNEXT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"},
    "text_cfg": hub.TINY_TEXT,
}


@pytest.mark.parametrize(
    ("save", "spec"),
    [
        (partial(hub.save_open_clip, model_cfg=RESNET, preprocess_cfg=hub.OPENAI), "open_clip:local-dir:"),
        (partial(hub.save_open_clip, model_cfg=CONVNEXT, preprocess_cfg=hub.OPENAI), "open_clip:local-dir:"),
        (partial(hub.save_timm, name="resnet10t"), "timm:local-dir:"),
        (partial(hub.save_timm, name="convnext_atto"), "timm:local-dir:"),
        (partial(hub.save_timm, name="swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), "timm:local-dir:"),
    ],
    ids=["open_clip-resnet", "open_clip-convnext", "timm-resnet", "timm-convnext", "timm-swin"],
)
def test_encoder_without_patch_tokens_is_refused_by_name(
    save: Callable[[Path], Path], spec: str, tmp_path: Path
) -> None:
    encoder = load_encoder("maps", f"{spec}{save(tmp_path)}")
    batch = noise(1, encoder.preprocess.size, encoder.preprocess.size)
    assert encoder.encode(batch).shape == (1, encoder.dimension)
    for layer, norm in ((-1, True), (-1, False)):
        with pytest.raises(ConfigError) as refused:
            encoder.tokens(batch, layer, norm=norm)
        assert str(refused.value).startswith(encoder.spec)
        assert str(refused.value) in (f"{encoder.spec}: {NO_PATCHES}", without_norm(encoder))


def without_norm(encoder: Encoder) -> str:
    return f"{encoder.spec}: its final norm comes after its pooling; ask for the patch tokens with norm=False"


COCA = {
    "embed_dim": 64,
    "vision_cfg": {
        **hub.SMALL_14["vision_cfg"],  # type: ignore[dict-item]
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {**hub.TINY_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**hub.TINY_TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}


@pytest.mark.parametrize(
    ("save", "spec", "theirs", "prefix"),
    [
        (timm_saver("eva02_tiny_patch14_224"), "timm:local-dir:", from_timm_folder, 1),
        (timm_saver("vit_medium_patch16_reg4_gap_256"), "timm:local-dir:", from_timm_folder, 4),
        (
            partial(hub.save_open_clip, model_cfg=COCA, preprocess_cfg=hub.OPENAI),
            "open_clip:local-dir:",
            from_open_clip,
            1,
        ),
    ],
    ids=["eva", "registers-without-class", "coca"],
)
def test_tower_that_norms_after_its_pooling_has_tokens_before_it_only(
    save: Callable[[Path], Path], spec: str, theirs: Any, prefix: int, tmp_path: Path
) -> None:
    folder = save(tmp_path)
    encoder = load_encoder("tower", f"{spec}{folder}")
    batch = noise(2, 224, 224)
    with pytest.raises(ConfigError) as refused:
        encoder.tokens(batch)
    assert str(refused.value) == without_norm(encoder)
    states = (
        theirs(folder, encoder._normalised(batch))[0] if theirs is from_timm_folder else coca_states(encoder, batch)
    )
    for index in (0, 1, 2):
        assert torch.equal(encoder.tokens(batch, index, norm=False).patches, states[index][:, prefix:])


def coca_states(encoder: Encoder, batch: Tensor) -> list[Tensor]:
    visual: Any = encoder._tower.module
    pixels = encoder._normalised(batch)
    with torch.no_grad():
        found = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
        pairs = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
        return [visual._embeds(pixels), *(torch.cat(pair, dim=1) for pair in pairs)]


def test_register_is_not_taken_for_a_class_token(tmp_path: Path) -> None:
    folder = timm_saver("vit_medium_patch16_reg4_gap_256")(tmp_path)
    encoder = load_encoder("tower", f"timm:local-dir:{folder}")
    assert encoder.tokens(noise(1, 224, 224), norm=False).class_token is None
    with pytest.raises(ConfigError, match=r"this model has no pool=cls; it has pooler, mean$"):
        load_encoder("tower", f"timm:local-dir:{folder}?pool=cls")


def test_layer_that_keeps_other_tokens_than_the_last_is_refused(tmp_path: Path) -> None:
    folder = timm_saver("cait_xxs24_224")(tmp_path)  # its class token joins after the blocks
    encoder = load_encoder("tower", f"timm:local-dir:{folder}")
    batch = noise(1, 224, 224)
    assert encoder.tokens(batch).patches.shape == (1, 196, 192)
    for layer in (0, 1, -1):
        with pytest.raises(
            ConfigError, match=r"layer \d does not hold the tokens that its last layer has after the norm"
        ):
            encoder.tokens(batch, layer, norm=False)


def test_tokens_without_a_known_grid_are_refused(tmp_path: Path) -> None:
    encoder = load_encoder("tower", f"timm:local-dir:{hub.save_timm(tmp_path, 'levit_128s')}")
    batch = noise(1, 224, 224)
    assert encoder.encode(batch).shape == (1, 384)
    with pytest.raises(ConfigError, match=r"its 16 tokens are no grid of patches; choose a plain vision transformer"):
        encoder.tokens(batch, norm=False)


def test_patch_size_that_is_one_number_is_read(tmp_path: Path) -> None:
    encoder = load_encoder("tower", f"timm:local-dir:{hub.save_timm(tmp_path, 'xcit_nano_12_p8_224', depth=2)}")
    tokens = encoder.tokens(noise(1, 224, 224))
    assert (tokens.grid, tokens.patches.shape) == ((28, 28), (1, 784, 128))
