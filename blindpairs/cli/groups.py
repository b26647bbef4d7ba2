"""Options in groups: a command with many options takes frozen dataclasses, whose fields are the options."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses. In the signature that Typer reads, each dataclass is replaced by its fields.

    Raises TypeError where two groups, or a group and the command, have a field of the same name.
    """
    signature = inspect.signature(function, eval_str=True)  # annotations may be strings
    parameters = signature.parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in parameters if is_dataclass(one.annotation)}

    def run(**given: Any) -> None:
        built = {
            name: group(**{one.name: given.pop(one.name) for one in fields(group)}) for name, group in groups.items()
        }
        function(**built, **given)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    flags = [one for parameter in parameters for one in _spread(parameter)]
    names = [flag.name for flag in flags]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{function.__name__} has two options called {', '.join(repeated)}")
    run.__signature__ = signature.replace(parameters=flags)  # type: ignore[attr-defined]
    return run


def _spread(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    group = parameter.annotation
    if not is_dataclass(group):
        return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(group)
    ]


def given_options(*groups: Any) -> dict[str, str]:
    """The options of groups that differ from their defaults, in the order of the help: name of the field -> flag."""
    return {
        one.name: flag_of(group, one.name)
        for group in groups
        for one in fields(group)
        # Not getattr: whether an option is given is no use of its value.
        if vars(group)[one.name] != one.default
    }


def flag_of(group: Any, name: str) -> str:
    """How users spell the option of a field: what its annotation says, else its name with dashes."""
    hint = get_type_hints(group if isinstance(group, type) else type(group), include_extras=True)[name]
    (about,) = hint.__metadata__
    return about.param_decls[0] if about.param_decls else "--" + name.replace("_", "-")
