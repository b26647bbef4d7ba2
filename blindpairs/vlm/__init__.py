"""Vision-language models that answer questions about images: on this machine, behind an endpoint, or from a run.

    model = open_model("openai:llava@http://localhost:8000/v1", work=work)
    with open_cache(work / "replies.sqlite") as cache:
        for outcome in ask_all(model, asks, cache=cache, budget=Budget(max_requests=100)):
            ...  # a Reply or a Failure, with the key of its ask

Read in this order: `asking` (what is asked and what comes back), `specs` (the string), `answering` (`ask_all`, with
`cache`, `budget` and `structured`), then the two kinds of models: `endpoint` with `wire` and `retries`, and `local`
with `runs`.
"""

from pathlib import Path

from blindpairs.progress import Notice, drop_notice
from blindpairs.vlm.answering import ask_all
from blindpairs.vlm.asking import Answerer, Ask, Failure, Part, Picture, Reply
from blindpairs.vlm.budget import Budget, Meter, Plan, plan
from blindpairs.vlm.cache import Cache, open_cache
from blindpairs.vlm.retries import RetryPolicy
from blindpairs.vlm.runs import newest_checkpoint
from blindpairs.vlm.specs import parse_model_spec
from blindpairs.workspace import Workspace

__all__ = [
    "Answerer",
    "Ask",
    "Budget",
    "Cache",
    "Failure",
    "Meter",
    "Part",
    "Picture",
    "Plan",
    "Reply",
    "RetryPolicy",
    "ask_all",
    "open_cache",
    "open_model",
    "plan",
]


def open_model(
    spec: str,
    *,
    work: Path,
    device: str = "auto",
    retry_policy: RetryPolicy = RetryPolicy(),
    notice: Notice = drop_notice,
) -> Answerer:
    """`hf:REPO_OR_FOLDER`, `openai:MODEL@WHERE` or `run:NAME` -> a model that answers.

    `device` is for models on this machine, `retry_policy` and `notice` for endpoints. Raises ConfigError for a spec
    that is none, AssetMissing for a model that is not here, InputError for a run that is not below `work`.
    """
    parsed = parse_model_spec(spec)
    if parsed.kind == "openai":
        from blindpairs.vlm.endpoint import Endpoint

        return Endpoint(parsed, retry_policy, notice)
    from blindpairs.vlm.local import load_local

    if parsed.kind == "run":
        checkpoint = newest_checkpoint(Workspace(work).runs, parsed.target)
        return load_local(parsed.text, str(checkpoint), device=device, trust_remote_code=True)
    return load_local(parsed.text, parsed.target, device=device)
