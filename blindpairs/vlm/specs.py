"""Parses the spec of a model that answers: `hf:REPO_OR_FOLDER`, `openai:MODEL@WHERE` or `run:NAME`.

WHERE is a base address, or the name of a server or service whose address, key and peculiarities are known.
"""

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from blindpairs.errors import ConfigError
from blindpairs.vlm.runs import NAME

FORMS = (
    "hf:REPO_OR_FOLDER, run:NAME, openai:MODEL@BASE_URL such as openai:llava@http://localhost:8000/v1,\n"
    "or openai:MODEL@NAME with one of the names "
)
KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Service:
    """A server or service with an OpenAI-compatible interface: where it is, and how it differs from the others."""

    base_url: str
    key_variable: str = KEY  # the environment variable that holds the key
    token_limit: str = "max_tokens"  # what it calls the limit of the answer's length
    structured: bool = True  # whether it can force a reply into a JSON Schema
    several_images: str = ""  # what to do where it refuses more than one image in a prompt


# Sources of the addresses: the documentation of each; local ones are the default port of its serve command.
SERVICES = {
    "vllm": Service(
        "http://localhost:8000/v1",
        several_images="""start it with --limit-mm-per-prompt '{"image": N}' (older releases: image=N)""",
    ),
    "sglang": Service("http://localhost:30000/v1"),
    "ollama": Service("http://localhost:11434/v1"),
    "llama.cpp": Service("http://localhost:8080/v1"),
    # It takes response_format, ignores it, and warns in its own log only.
    "transformers": Service("http://localhost:8000/v1", structured=False),
    "openai": Service("https://api.openai.com/v1", token_limit="max_completion_tokens"),
    "openrouter": Service("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
}
# A server at another address: it may run any of them, so the advice is that of the most common.
UNKNOWN_SERVICE = Service("", several_images="with vLLM, " + SERVICES["vllm"].several_images)


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec. `target` is a repository, a folder, a run, or the model's name on its endpoint."""

    text: str
    kind: str  # "hf", "openai" or "run"
    target: str
    service: Service | None = None  # of openai
    base_url: str = ""  # of openai: without a slash at its end


def parse_model_spec(text: str) -> ModelSpec:
    """`kind:target` -> ModelSpec; ConfigError lists the forms."""
    text = text.strip()
    kind, _, target = text.partition(":")
    if kind not in ("hf", "openai", "run") or not target:
        raise ConfigError(f"{_shown(text)!r} is not a model that answers: give {FORMS}{', '.join(SERVICES)}")
    if kind == "run" and not NAME.fullmatch(target):
        raise ConfigError(f"{text}: the name of a run has letters, digits, dots, dashes and underscores only")
    return _endpoint(text, target) if kind == "openai" else ModelSpec(text, kind, target)


def _endpoint(text: str, target: str) -> ModelSpec:
    # Names of models may hold an @ (org/model@revision), and so does an address with a password in it.
    match = re.fullmatch(r"(?P<model>.+?)@(?P<where>https?://.+)", target, re.DOTALL)
    model, _, where = (match["model"], "@", match["where"]) if match else target.rpartition("@")
    if "@" not in target:  # the address is in the environment, where the openai client reads it, too
        model, where = target, os.environ.get("OPENAI_BASE_URL", "").strip() or "openai"
    if not model:
        raise ConfigError(f"{_shown(text)} names no model: give openai:MODEL@WHERE")
    service = SERVICES.get(where)
    if service is None and not where.startswith(("http://", "https://")):
        raise ConfigError(
            f"{text}: {where!r} is neither an address such as http://localhost:8000/v1 nor one of {', '.join(SERVICES)}"
        )
    return ModelSpec(
        text, "openai", model, service or UNKNOWN_SERVICE, service.base_url if service else _base_url(where)
    )


def _base_url(address: str) -> str:
    """The address that `/chat/completions` is appended to; ConfigError for one that is none."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{_shown(address)} is not an address ({error})") from error
    if not host:
        raise ConfigError(f"{_shown(address)} is not an address: it names no host")
    if "@" in parts.netloc:
        # A spec is written into results and logs.
        raise ConfigError(f"{_shown(address)}: no password in an address; put a key into {KEY} instead")
    if parts.query or parts.fragment:
        raise ConfigError(f"{address}: give the base address only, without ? and #")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _shown(text: str) -> str:
    """A text without the user and password of an address in it."""
    return re.sub(r"(https?://)[^/]*@", r"\1...@", text)
