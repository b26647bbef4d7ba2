"""Parses a spec string: library, model, and options after `?`."""

import re
from dataclasses import dataclass, replace

from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder

FORMS = (
    "open_clip:MODEL/PRETRAINED (a tag or a checkpoint file), open_clip:local-dir:FOLDER, hf:REPO_OR_FOLDER, "
    "timm:NAME, timm:local-dir:FOLDER, demo:clip or demo:dino,\n"
    "with options after `?`, joined by `&`: pool=cls|mean|pooler|projection, size=PIXELS, checkpoint=FILE (timm only)"
)
POOLS = ("cls", "mean", "pooler", "projection")
LOCAL_DIR = "local-dir:"

# The name of a folder may contain a question mark: only text that looks like options (`?name=value`) is cut off.
_SPEC = re.compile(r"(?P<library>[a-z_]+):(?P<target>.+?)(?:\?(?P<options>[a-z]+=[^?]*))?", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A parsed spec string. `target` is the library's own name for the model, or `local-dir:FOLDER`."""

    text: str
    library: str
    target: str
    pool: str | None = None
    size: int | None = None
    checkpoint: str | None = None

    def pool_among(self, allowed: tuple[str, ...]) -> str:
        """`?pool=`, or the first of `allowed` by default; ConfigError if this model does not have that pooling."""
        pool = self.pool or allowed[0]
        if pool not in allowed:
            raise ConfigError(f"{self.text}: this model has no pool={pool}; it has {', '.join(allowed)}")
        return pool

    def check_size(self, patch: int) -> None:
        """ConfigError unless `?size=` is a multiple of the patch size: libraries silently cut off the rest."""
        if self.size is not None and self.size % patch:
            near = max(1, round(self.size / patch)) * patch
            raise ConfigError(
                f"{self.text}: size={self.size} is not a multiple of the patch size {patch}; use size={near}"
            )

    def check_square(self, height: int, width: int) -> None:
        """ConfigError for a model whose images are not square."""
        if height != width:
            raise ConfigError(f"{self.text}: images of {height} x {width} are not square, which is not supported")


def parse_spec(text: str) -> Spec:
    """`library:target?option=value&...` -> Spec; ConfigError lists the forms."""
    match = _SPEC.fullmatch(text.strip())
    if match is None or match["library"] not in ("open_clip", "hf", "timm", "demo"):
        raise ConfigError(f"{text!r} is not an encoder spec: give {FORMS}")
    options = dict(part.partition("=")[::2] for part in (match["options"] or "").split("&") if part)
    known = {"pool", "size", "checkpoint"} if match["library"] == "timm" else {"pool", "size"}
    if unknown := sorted(options.keys() - known):
        raise ConfigError(f"{text}: unknown option {unknown[0]!r}; the options are {', '.join(sorted(known))}")
    if (pool := options.get("pool")) not in (None, *POOLS):
        raise ConfigError(f"{text}: pool={pool} is not one of {', '.join(POOLS)}")
    size = options.get("size")
    if size is not None and (not size.isdecimal() or int(size) < 1):
        raise ConfigError(f"{text}: size={size} is not a number of pixels, such as size=336")
    return Spec(text, match["library"], match["target"], pool, int(size) if size else None, options.get("checkpoint"))


def without_demo(spec: Spec) -> Spec:
    """The spec of a demo encoder as that of the folder in which it ships; any other spec as it is."""
    if spec.library != "demo":
        return spec
    if spec.target == "clip":
        return replace(spec, library="open_clip", target=f"{LOCAL_DIR}{demo_folder() / 'clip'}")
    if spec.target == "dino":
        return replace(spec, library="hf", target=str(demo_folder() / "dino"))
    raise ConfigError(f"{spec.text!r} is not an encoder spec: give {FORMS}")
