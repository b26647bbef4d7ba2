"""`blindpairs chat`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, print_json, say
from blindpairs.errors import ConfigError, InputError, Undecodable

if TYPE_CHECKING:
    from blindpairs.vlm import Answerer, Picture


@command
def chat(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The name of a run of train-mof; hf:FOLDER and openai:MODEL@WHERE, too."),
    ],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file.")],
    question: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Selection",
            help="Ask this and stop. Repeatable. [default: ask what is typed]",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, rich_help_panel="Machine", help="Longest answer.")] = 256,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Ask a trained model about one image. Each question stands alone: the model does not see the ones before it."""
    from blindpairs.vlm import open_model

    if as_json and not question:
        raise ConfigError("--json needs --question: what is typed is answered as text")
    path = named_folder("IMAGE", image)
    picture = _picture(path)
    model = open_model(run if ":" in run else f"run:{run}", work=work, notice=say)
    answers = []
    for text in question or _typed(path):
        answers.append({"question": text, "answer": _answer(model, picture, text, max_tokens)})
        if not as_json:
            typer.echo(answers[-1]["answer"])
    if as_json:
        print_json({"model": model.name, "image": str(path), "answers": answers})


def _picture(path: Path) -> "Picture":
    from blindpairs.access import reading
    from blindpairs.evaluate.pictures import upright_picture

    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image file in it")
    with reading(path):
        content = path.read_bytes()
    try:
        return upright_picture(content)
    except Undecodable as failure:
        raise InputError(f"{path} is no image that can be read ({failure.code}: {failure.message})") from failure


def _answer(model: "Answerer", picture: "Picture", text: str, max_tokens: int) -> str:
    from blindpairs.vlm import Ask, Failure

    (outcome,) = model.ask([Ask("chat", (picture, text), max_tokens=max_tokens)])
    if not isinstance(outcome, Failure):
        return outcome.text.strip()
    if outcome.code != "empty":
        raise InputError(f"no answer ({outcome.code}: {outcome.message})")
    return ""  # it said nothing, which is an answer


def _typed(path: Path) -> Iterator[str]:
    """Questions from standard input: on a terminal with a prompt and up to an empty line, else every line of it."""
    terminal = sys.stdin is not None and sys.stdin.isatty()
    if terminal:
        say(f"ask about {path}; an empty line ends")
    while line := sys.stdin.readline() if sys.stdin is not None else "":
        if line.strip():
            yield line.strip()
        elif terminal:
            return
