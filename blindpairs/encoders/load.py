"""Loads the encoder of a spec with the library that the spec names."""

from dataclasses import replace

from blindpairs.encoders.encoder import Encoder, Tower
from blindpairs.encoders.specs import FORMS, LOCAL_DIR, Spec, parse_spec
from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder


def load_encoder(name: str, spec: str, *, device: str = "cpu") -> Encoder:
    """Load the encoder that `spec` names, its vision tower alone on `device`; `name` is its column in the store.

    ConfigError: not a spec, no such model, broken weights. AssetMissing: no local weights, and the download failed.
    """
    return Encoder(name, spec, _tower(parse_spec(spec)), device)


def _tower(spec: Spec) -> Tower:
    # Imported here, one at a time: each library takes seconds to load.
    if spec.library == "demo":
        spec = _demo(spec)
    if spec.library == "open_clip":
        from blindpairs.encoders.from_open_clip import load_open_clip

        return load_open_clip(spec)
    if spec.library == "timm":
        from blindpairs.encoders.from_timm import load_timm

        return load_timm(spec)
    from blindpairs.encoders.from_transformers import load_transformers

    return load_transformers(spec)


def _demo(spec: Spec) -> Spec:
    """The two encoders that ship with the package are ordinary folders of ordinary libraries."""
    if spec.target == "clip":
        return replace(spec, library="open_clip", target=f"{LOCAL_DIR}{demo_folder() / 'clip'}")
    if spec.target == "dino":
        return replace(spec, library="hf", target=str(demo_folder() / "dino"))
    raise ConfigError(f"{spec.text!r} is not an encoder spec: give {FORMS}")
