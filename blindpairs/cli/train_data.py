"""What train-mof is given to train on: the demo's data, made where they are asked for, and what must not be in it."""

from dataclasses import replace
from typing import TYPE_CHECKING

from blindpairs.access import present
from blindpairs.cli.app import progress_bar, say
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.mof.checking import Known
    from blindpairs.mof.data import Preparing
    from blindpairs.mof.recipe import Recipe


def with_demo_data(recipe: "Recipe", space: Workspace) -> tuple["Recipe", bool]:
    """The recipe with files in the place of `demo:captions` and `demo:instructions`; whether there were any."""
    from blindpairs.demo.instructions import DEMO, with_instructions, write_instructions

    if not any(stage.data.startswith(DEMO) for stage in (recipe.stage1, recipe.stage2)):
        return recipe, False

    with progress_bar("draw scenes of the demo and questions about them", "scenes") as show:
        folder = write_instructions(space.prepared / "demo-instructions", show)
    return with_instructions(recipe, folder), True


def preparing(space: Workspace, made: bool) -> "Preparing":
    """How data are prepared. Those of the demo that we have made are not looked at again."""
    from blindpairs.mof.checking import Known
    from blindpairs.mof.data import Preparing

    return Preparing(space.prepared, Known() if made else benchmark_images(space), look=not made, notice=say)


def benchmark_images(space: Workspace) -> "Known":
    """The images of the work folder's benchmark, by id and by perceptual hash; none without a benchmark."""
    from blindpairs.benchmark.native import DATA, read_native
    from blindpairs.mof.checking import Known

    if not present(space.benchmark / DATA):
        return Known()
    benchmark = read_native(space.benchmark)
    images = benchmark.images(benchmark.image_ids)
    known = Known.of(content for _, content in images if isinstance(content, bytes))
    return replace(known, ids=known.ids | set(benchmark.image_ids))  # those without content are known by their id
