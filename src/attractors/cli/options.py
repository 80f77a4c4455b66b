"""Options of the command line, generated from a section of settings: their types, ranges, defaults and help."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from attractors.settings.section import Section, alternatives, bounds, in_words


class Union(click.ParamType):
    """A field of several types, such as a distance or the word auto."""

    def __init__(self, field: FieldInfo) -> None:
        self.words = in_words(field)
        self.adapter: TypeAdapter = TypeAdapter(field.annotation)  # type: ignore[arg-type]  # no field is without a type
        self.name = "|".join(
            "|".join(get_args(part)) if get_origin(part) is Literal else "number"
            for part in alternatives(field.annotation)
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of the field that a word on the command line stands for, or fail with one line."""
        try:
            return self.adapter.validate_strings(value) if isinstance(value, str) else value
        except ValidationError:
            self.fail(f"{value!r}: it must be {self.words}", param, ctx)


def click_type(annotation: Any, field: FieldInfo) -> click.ParamType:
    """Return how click reads one value of the type `annotation`, within the field's bounds."""
    limits = bounds(field)
    least: Any = limits.get("ge", limits.get("gt"))
    most: Any = limits.get("le", limits.get("lt"))
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if annotation is int:
        return click.IntRange(least, most)
    if annotation is float and not limits:
        return click.FLOAT
    if annotation is float:
        return click.FloatRange(least, most, min_open="gt" in limits, max_open="lt" in limits)
    return {bool: click.BOOL, str: click.STRING}[annotation]


def option_of(name: str, field: FieldInfo) -> click.Option:
    """Return the option of one field: --steps of steps, --method (which may be repeated) of the list methods."""
    kinds = alternatives(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    words: dict[str, Any] = {}
    if field.is_required():
        words["required"] = True
    elif field.default is not None:
        words["default"] = field.default
    if get_origin(kinds[0]) is tuple:
        (member, *_) = get_args(kinds[0])
        return click.Option(
            [flag.removesuffix("s"), name], type=click_type(alternatives(_bare(member))[0], field), multiple=True,
            help=field.description, **words,
        )
    if kinds == [bool]:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=field.default, help=field.description)
    kind = click_type(_bare(kinds[0]), field) if len(kinds) == 1 else Union(field)
    return click.Option([flag], type=kind, help=field.description, **words)


def _bare(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation


def options_of(*sections: type[Section]) -> Iterator[click.Option]:
    """Yield the options of all fields of `sections`, in their order."""
    for section in sections:
        for name, field in section.model_fields.items():
            yield option_of(name, field)
