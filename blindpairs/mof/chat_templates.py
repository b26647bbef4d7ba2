"""The templates as Jinja texts, which a saved processor carries, so that it asks as the model was trained.

Promises: a message's content may be text, or a list of parts of type `text` and `image`, as `transformers` passes it;
one image stands before the text of its message, on a line of its own, as LLaVA puts it; answers are inside generation
tags in `plain` and `vicuna_v1`. A language model's own template expects texts: it gets lists flattened to texts.
"""

import json
import re
from typing import Any, Literal, get_args

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from blindpairs.errors import ConfigError

Template = Literal["plain", "vicuna_v1", "chat"]
Message = dict[str, Any]  # role, and content: a text, or parts of type text and image

OTHERWISE = "give another, such as --set stage2.template=vicuna_v1"  # what to do about a chat template
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

# `image_token` is set before it. One image goes to the front of its message, several stay where they are; a message
# with images is stripped, as LLaVA does.
BODY = """\
{%- macro body(message) -%}
{%- if message.content is string -%}{{ message.content }}{%- else -%}
{%- set images = message.content | selectattr('type', 'equalto', 'image') | list | length -%}
{%- set said = namespace(text='') -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{%- set said.text = said.text ~ part.text -%}
{%- elif part.type == 'image' and images > 1 -%}{%- set said.text = said.text ~ image_token ~ '\\n' -%}
{%- endif -%}{%- endfor -%}
{%- if images == 1 -%}{{ (image_token ~ '\\n' ~ (said.text | trim)) | trim }}
{%- else -%}{{ (said.text | trim) if images else said.text }}
{%- endif -%}{%- endif -%}{%- endmacro -%}
"""
VICUNA = """\
{%- set found = namespace(system=system) -%}
{%- for message in messages if message.role == 'system' -%}{%- set found.system = body(message) -%}{%- endfor -%}
{{ found.system ~ ' ' }}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ 'USER: ' ~ body(message) ~ ' ' }}
{%- elif message.role == 'assistant' -%}
{{ 'ASSISTANT:' }}{%- generation -%}{{ ' ' ~ body(message) ~ eos_token }}{%- endgeneration -%}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
# Stage 1 has no questions: an image is followed by its caption.
PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'user' and message.content is not string -%}
{%- for part in message.content if part.type == 'image' -%}{{ image_token }}{%- endfor -%}
{%- elif message.role == 'assistant' -%}{%- generation -%}{{ body(message) ~ '\\n' }}{%- endgeneration -%}
{%- endif -%}{%- endfor -%}
"""
# The last expression is empty: it keeps the first characters of the template after it from being trimmed.
FLATTENED = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set flat.messages = flat.messages + [dict(message, content=body(message))] -%}
{%- endfor -%}
{%- set messages = flat.messages -%}{{ '' }}"""


def processor_template(template: Template, tokenizer: Any) -> str:
    """The Jinja text of a template for this tokenizer. ConfigError where the tokenizer lacks what it needs."""
    if template not in get_args(Template):
        raise ConfigError(f"template {template!r} is unknown; it is one of {', '.join(get_args(Template))}")
    head = "{%- set image_token = " + json.dumps(image_token(tokenizer)) + " -%}\n" + BODY
    if template == "plain":
        return head + PLAIN
    if template == "vicuna_v1":
        if not tokenizer.eos_token:
            raise ConfigError("the tokenizer has no end-of-text token, with which answers end in vicuna_v1")
        return head + "{%- set system = " + json.dumps(VICUNA_SYSTEM) + " -%}\n" + VICUNA
    own = own_template(tokenizer)
    return own if _reads_parts_alone(own, tokenizer) else head + FLATTENED + own


def image_token(tokenizer: Any) -> str:
    """The token in the place of an image. ConfigError where the tokenizer has none."""
    token = str(getattr(tokenizer, "image_token", None) or "<image>")
    if token not in tokenizer.get_vocab():
        raise ConfigError(f"the tokenizer has no token {token}: build the model with blindpairs, which adds it")
    return token


def own_template(tokenizer: Any) -> str:
    """The tokenizer's chat template; ConfigError where it has none."""
    own = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    if not own:
        raise ConfigError(f"the language model's tokenizer has no chat template: {OTHERWISE}")
    return str(own)


def rendered(template: str, messages: list[Message], tokenizer: Any, *, prompt: bool = False) -> str:
    """The text of messages; with `prompt`, up to where the next answer begins. ConfigError where the template fails."""
    return _rendered(template, messages, tokenizer, add_generation_prompt=prompt)[0]


def rendered_with_answers(template: str, messages: list[Message], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The text of messages, and where its generation tags were: start and end of each, in characters."""
    return _rendered(template, messages, tokenizer, return_assistant_tokens_mask=True)


def _rendered(template: str, messages: list[Message], tokenizer: Any, **options: bool) -> tuple[str, Any]:
    names = tokenizer.special_tokens_map  # templates read bos_token and its like
    try:
        (text,), places = render_jinja_template([messages], chat_template=template, **options, **names)
    except (TemplateError, TypeError) as error:
        raise ConfigError(f"the chat template cannot write a conversation ({str(error)[:80]}): {OTHERWISE}") from error
    return str(text), list(places[0]) if places else []


def has_generation_tags(template: str) -> bool:
    """Whether a template says itself what its answers are."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def _reads_parts_alone(template: str, tokenizer: Any) -> bool:
    """Whether a template passes over content that is a text, as those of vision-language models may do."""
    question = [{"role": "user", "content": "what is this"}]
    try:
        return "what is this" not in rendered(template, question, tokenizer)
    except ConfigError:
        return True
