"""What a store was asked to hold: written once, and every later run has to agree with it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blindpairs.access import listed, present, removed
from blindpairs.embed.relocate import OtherCorpus, refuse_shards, relocate
from blindpairs.embed.run import EmbedOptions, ImageEncoder
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import Corpus
from blindpairs.store import IMPORTED, is_moving, plan_size, read_manifest, remove_store, write_plan
from blindpairs.store.moving import finish_move
from blindpairs.workspace import canonical_json, digest, sha256_file, stamp, write_json

PATHS = "digest of the source paths"


def agree_on_manifest(
    corpus: Corpus,
    folder: Path,
    described: Mapping[str, Mapping[str, object]],
    options: EmbedOptions,
    warnings: list[str],
) -> dict[str, Any]:
    """Plan the corpus, or check that this run fits the plan that is there; call it under the planning lock."""
    path = folder / "manifest.json"
    settings = {
        "corpus": corpus.describe(),
        PATHS: digest([os.fsencode(path).hex() for path in corpus.paths])[:8],
        "reading": {name: value for name, value in asdict(corpus.options).items() if name != "exclude"},
        "part_rows": options.part_rows,
        "limits": asdict(options.limits),
    }
    if options.overwrite:
        if options.shard[1] > 1:
            raise ConfigError(f"--overwrite would remove other shards' parts: remove {folder} yourself, then start all")
        next(corpus.items())  # raises where there is no image: a wrong path must not cost what is there
        remove_store(folder)
    if not present(path):
        return _plan(corpus, folder, settings, described, warnings)
    if is_moving(folder):
        refuse_shards(folder, options.shard[1])
        finish_move(folder)
        warnings.append("an interrupted move of the store to where its corpus is has been finished")
    manifest = read_manifest(folder)
    place = {name: manifest["settings"].get(name) for name in ("corpus", PATHS)}
    _refuse_other_settings(folder, manifest, settings | place, described)
    warnings += _other_versions(manifest["encoders"], described)
    moved = place != {name: settings[name] for name in place}
    warnings += _mended_plan(None if moved else corpus, folder, manifest)
    if moved:
        refuse_shards(folder, options.shard[1])
        manifest = _follow(corpus, folder, manifest, settings, warnings)
    if corpus.fingerprint() != manifest["fingerprint"]:
        warnings.append("the corpus has changed since it was planned: new images need --overwrite")
    if not described.keys() <= manifest["encoders"].keys():
        manifest["encoders"] |= described
        write_json(path, manifest)
    return manifest


def _mended_plan(corpus: Corpus | None, folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """What was done so that the plan is the one that the manifest vouches for; without `corpus` it cannot be mended."""
    path, plan = folder / "manifest.json", folder / "plan.parquet"
    if not {"sha256", "items", "notes"} <= manifest["plan"].keys():
        raise InputError(f"{path} is damaged: `embed --overwrite` embeds everything again")
    done = []
    if not present(plan) or sha256_file(plan) != manifest["plan"]["sha256"]:
        if corpus is None:
            raise ConfigError(
                f"{plan} is missing or damaged, and this corpus is another than the one that was planned: "
                "--overwrite embeds everything again"
            )
        write_plan(plan, corpus.items(), manifest["settings"]["part_rows"], manifest["plan"]["sha256"])
        done = [f"{plan.name} was missing or damaged: it was made again from the corpus, which is as it was"]
    if plan_size(plan) != (manifest["plan"]["items"], manifest["plan"]["parts"]):
        raise InputError(f"{path} and {plan.name} differ: `embed --overwrite` embeds everything again")
    return done


def _follow(
    corpus: Corpus, folder: Path, manifest: dict[str, Any], settings: dict[str, Any], warnings: list[str]
) -> dict[str, Any]:
    """The manifest of a store that has followed its corpus to another place; ConfigError for another corpus."""
    old, new = manifest["settings"]["corpus"], settings["corpus"]
    try:
        moved = relocate(corpus, folder, manifest, settings)
    except OtherCorpus as error:
        raise ConfigError(
            f"{folder} was made of another corpus: corpus is {old} there and {new} now, and it has not just moved "
            f"({error}). Use --overwrite to embed anew, or another --work"
        ) from error
    if moved["settings"] != manifest["settings"]:
        warnings.append(
            f"the corpus has moved from {old} to {new}: its {moved['plan']['items']:,} images are the same, and the "
            "store now names them where they are; `mine` again, for pairs and their page still name the old place"
        )
    return moved


def _plan(
    corpus: Corpus, folder: Path, settings: dict[str, Any], described: Mapping[str, object], warnings: list[str]
) -> dict[str, Any]:
    part_rows = settings["part_rows"]
    if any(path.name.endswith(".done.json") for path in listed(folder)):
        warnings.append(f"{folder} held parts without a manifest.json, which says of what: all are embedded again")
    remove_store(folder)  # parts without a manifest are what a killed --overwrite left: of another plan
    plan = folder / "plan.parquet"
    items = write_plan(plan, corpus.items(), part_rows)
    if not items:
        removed(plan)
        raise InputError(f"no images in {settings['corpus']}: name a folder, tars or Parquet files that hold some")
    manifest = stamp() | {
        "settings": settings,
        "fingerprint": corpus.fingerprint(),
        "plan": {
            "items": items,
            "parts": -(-items // part_rows),
            "sha256": sha256_file(plan),
            "notes": dict(corpus.notes),
        },
        "encoders": dict(described),
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def refuse_imported(folder: Path, options: EmbedOptions) -> None:
    """ConfigError where the store was imported and is to stay: ask before encoders are loaded for nothing."""
    if options.overwrite or not present(folder / "manifest.json"):
        return
    if any(one.get("spec") == IMPORTED for one in read_manifest(folder)["encoders"].values()):
        raise ConfigError(
            f"{folder} holds imported embeddings, and embed cannot see what they were made from: choose another "
            "--work, or import the other encoder's vectors along with `import --second`"
        )


def _refuse_other_settings(
    folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any], described: Mapping[str, Any]
) -> None:
    _refuse(folder, [*_differences(manifest["settings"], settings), *_other_encoders(manifest, described)])


def refuse_other_encoder(folder: Path, manifest: Mapping[str, Any], name: str, encoder: ImageEncoder) -> None:
    """ConfigError where an encoder that was loaded to repair a part is not the one that made the others."""
    _refuse(folder, _other_encoders(manifest, {name: encoder.describe()}))


def _other_encoders(manifest: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    differences: list[str] = []
    for name in described.keys() & manifest["encoders"].keys():
        # A newer release of the library is no other encoder: it is told, see `_other_versions`.
        old, new = ({**side[name], "version": ""} for side in (manifest["encoders"], described))
        differences += _differences(old, new, f"encoder.{name}")
    return differences


def _refuse(folder: Path, differences: Sequence[str]) -> None:
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        raise ConfigError(
            f"{folder} was made with other settings: {shown}. Use --overwrite to embed anew, or another --work"
        )


def _other_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was embedded with {old[name]['library']} {old[name]['version']} so far, now with {each['version']}"
        for name, each in new.items()
        if name in old and old[name].get("version") != each.get("version")
    ]


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, each with both sides."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif canonical_json(old) != canonical_json(new):
        yield f"{path} is {old} there and {new} now"
