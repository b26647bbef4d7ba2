"""How a model writes answers by itself: the settings of its language model, as far as they go on to hold.

Promises: the settings can be saved, whatever the language model's own file says; no answer has a token that stands for
an image; an answer ends at the token that training taught to end it, and at those that the language model ended at.
"""

from collections.abc import Iterable
from typing import Any

from blindpairs.errors import ConfigError

# What means something only to sampling, or to a search with beams. Many a language model, Vicuna among them, has values
# of the first without sampling: transformers loads such a file, and refuses to write it.
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
OF_BEAMS = ("early_stopping", "length_penalty")


def settings_of(language: Any, tokenizer: Any) -> Any:
    """The generation settings of a language model for a model with images. ConfigError where they mean nothing."""
    settings = language.generation_config
    unused = [*(() if settings.do_sample else OF_SAMPLING), *(OF_BEAMS if (settings.num_beams or 1) == 1 else ())]
    settings.update(**dict.fromkeys(unused), pad_token_id=tokenizer.pad_token_id)
    # No answer has one to learn from, and none may have one: the next step would look for its image.
    settings.suppress_tokens = [tokenizer.image_token_id]
    try:
        settings.validate(strict=True)  # as it is when the model is written, at the end of a training
    except ValueError as error:
        raise ConfigError(f"the language model's generation_config.json cannot be: {error}") from error
    return settings


def end_at(model: Any, ends: Iterable[int]) -> None:
    """Let generation stop at these tokens, too."""
    own = model.generation_config.eos_token_id
    known = [] if own is None else own if isinstance(own, list) else [own]
    model.generation_config.eos_token_id = sorted({*known, *ends}) or None
