"""`blindpairs eval --readout`: how much of each pattern is in an encoder's tokens, beside exchanged labels."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from blindpairs.cli.app import print_json, progress_bars, say
from blindpairs.cli.benchmark import described, identity
from blindpairs.defaults import DEMO_ENCODERS
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.encoders import Encoder
    from blindpairs.errors import Undecodable
    from blindpairs.evaluate.readout import EncoderReadout, Labelled, PatternReadout
    from blindpairs.progress import Progress

AUTO = "auto"
SHUFFLE = 0  # the seed of the exchanged labels
COLUMNS = {"pooled": "class token, linear", "patches": "patches, linear", "nearest": "patches, nearest"}


def evaluate_readout(
    specs: Sequence[str], layer: int | None, found: "Benchmark", space: Workspace, *, as_json: bool
) -> None:
    """Read each pattern out of each encoder, and again with the answers of pairs exchanged by lot."""
    from blindpairs.evaluate.readout import labelled

    tested = labelled(found)
    if not tested.pairs:
        raise ConfigError(f"{found.name} has no blind pair with a question: there are no answers to read out")
    encoders = _encoders(specs, space)
    training = _training(found)
    with progress_bars() as bar:
        read = [_read_out(one, tested, training, layer, bar(one.spec, "images")) for one in encoders]
    more = len(training.pairs) if training else 0
    if as_json:
        readouts = [{**_fields(one), "shuffled": _fields(other)} for one, other in read]
        print_json({"benchmark": identity(found), "training_pairs": more, "readouts": readouts})
        return
    typer.echo(f"{found.name}: {described(found)}, fingerprint {found.fingerprint}")
    trained = f" and {more:,} labelled pairs of the demo's scenes" if more else ""
    typer.echo(f"  trained on its other blind pairs{trained}; guessing is right about 50 %")
    for one, other in read:
        typer.echo()
        for line in _table(one, other):
            typer.echo(line)


def _encoders(specs: Sequence[str], space: Workspace) -> "list[Encoder]":
    """Each encoder once. All are loaded before work begins, so that the last one's mistake costs nothing."""
    from blindpairs.access import present
    from blindpairs.encoders import choose_device, load_encoder
    from blindpairs.mine.patches import column_encoder
    from blindpairs.store import Store

    store = Store.open(space.embeddings) if present(space.embeddings) else None
    columns = list(store.manifest["encoders"]) if store else []
    wanted = [name for spec in specs for name in (_usual(columns) if spec == AUTO else (spec,))]
    if unknown := [name for name in wanted if ":" not in name and name not in columns]:
        there = f"the store has {', '.join(columns)}" if columns else f"there is no store in {space.embeddings}"
        raise ConfigError(f"--readout {unknown[0]}: no such column, {there}; or give a spec, such as demo:clip")
    device = choose_device("auto")
    loaded = []
    for name in dict.fromkeys(wanted):
        if store is not None and name in columns:
            loaded.append(column_encoder(store, name))
        else:
            loaded.append(load_encoder(name, name, device=device))
    return loaded


def _usual(columns: Sequence[str]) -> list[str]:
    """The store's clip and dino; without a store, the demo's."""
    return [name for name in DEMO_ENCODERS if name in columns] or list(DEMO_ENCODERS.values())


def _training(found: "Benchmark") -> "Labelled | None":
    """More pairs to train on, for the benchmark of the demo alone: others have other images and answers."""
    from blindpairs.demo.benchmark import demo_benchmark
    from blindpairs.demo.labelled_pairs import labelled_pairs

    if found.fingerprint != demo_benchmark().fingerprint:
        return None
    say("drawing labelled pairs of the demo's scenes to train on")
    return labelled_pairs()


def _read_out(
    encoder: "Encoder", tested: "Labelled", training: "Labelled | None", layer: int | None, progress: "Progress"
) -> "tuple[EncoderReadout, EncoderReadout]":
    """With the answers as they are, and exchanged, from one pass over the images."""
    from blindpairs.encoders import Layer
    from blindpairs.evaluate.readout import EncoderReadout, images_of, of_features, shuffled
    from blindpairs.evaluate.token_features import token_features

    # A tower whose norm comes after its pooling has none to apply to patches.
    chosen = Layer(-1 if layer is None else layer, norm=encoder.transformer.norm is not None)
    total = len({key for given in (tested, training) if given for pair in given.pairs for key in pair.image_ids})
    (features,) = token_features(encoder, [chosen], _counted(images_of(tested, training), total, progress))
    found = []
    for exchange in (False, True):
        pairs = [shuffled(one, SHUFFLE).pairs if exchange else one.pairs for one in (tested, training) if one]
        read = of_features(features, pairs[0], pairs[1] if training else ())
        found.append(EncoderReadout(encoder.spec, chosen, *read))
    return found[0], found[1]


def _counted(
    images: "Iterator[tuple[str, bytes | Undecodable]]", total: int, progress: "Progress"
) -> "Iterator[tuple[str, bytes | Undecodable]]":
    for number, image in enumerate(images, 1):
        yield image
        progress(number, total)


def _table(one: "EncoderReadout", shuffled: "EncoderReadout") -> list[str]:
    from blindpairs.evaluate.overview import aligned, shown_rate

    heading = f"% right, {one.encoder}, layer {one.layer.index}"
    rows = [(heading, *(cell for title in COLUMNS.values() for cell in (title, "shuffled")))]
    named = [*((name or "without a pattern", one.patterns[name], shuffled.patterns[name]) for name in one.patterns)]
    for name, real, exchanged in [*named, ("all", one.all, shuffled.all)]:
        cells = []
        for column in COLUMNS:
            rate, chance = getattr(real, column), getattr(exchanged, column)
            cells += [shown_rate(rate), f"{100 * chance.share:.1f}" if chance.count else "-"]
        rows.append((f"{name} ({real.pairs:,} pairs)", *cells))
    lines = aligned(rows)
    if left := one.all.pairs - max(getattr(one.all, column).count for column in COLUMNS):
        why = "no other pair has their answers, or an image cannot be read"
        lines.append(f"  {left:,} of {one.all.pairs:,} pairs are not tried: {why}")
    return lines


def _fields(one: "EncoderReadout") -> dict[str, Any]:
    patterns = {name: _rates(readout) for name, readout in one.patterns.items()}
    return {"encoder": one.encoder, "layer": one.layer.index, "all": _rates(one.all), "patterns": patterns}


def _rates(readout: "PatternReadout") -> dict[str, Any]:
    from blindpairs.evaluate.summary import rate_fields

    return {"pairs": readout.pairs, **{name: rate_fields(getattr(readout, name)) for name in COLUMNS}}
