"""Options of the command line, one for each field of a section of settings, which pydantic checks."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import click
from pydantic import TypeAdapter, ValidationError

from attractors.settings.section import Section, in_words, limits


class Setting(click.ParamType):
    """The value of a field, or of a member of its list, read from the text of the command line."""

    def __init__(self, annotation: Any, schema: dict[str, Any], config: Any) -> None:
        self.adapter: TypeAdapter = TypeAdapter(annotation, config=config)
        self.schema, self.name = schema, _metavar(schema)

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return what --help shows in place of the value."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that a word stands for, or fail with one line. Values of files were checked before."""
        try:
            return self.adapter.validate_strings(value) if isinstance(value, str) else value
        except ValidationError:
            self.fail(f"{value!r}: it must be {in_words(self.schema)}", param, ctx)


def _metavar(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return "|".join(_metavar(part) for part in schema["anyOf"] if part.get("type") != "null")
    return schema.get("const") or "|".join(schema.get("enum", ())) or schema["type"].upper()


def option_of(section: type[Section], name: str) -> click.Option:
    """Return the option of one field: --steps of steps, --method (which may be repeated) of the list methods."""
    field, schema = section.model_fields[name], section.model_json_schema()["properties"][name]
    flag, annotation = f"--{name.replace('_', '-')}", field.annotation
    words: dict[str, Any] = {"required": True} if field.is_required() else {"default": field.default}
    names = [flag, name]
    if many := schema.get("type") == "array":
        names, annotation, schema = [flag.removesuffix("s"), name], get_args(annotation)[0], schema["items"]
    elif _metavar(schema) == "BOOLEAN":
        return click.Option([f"{flag}/--no-{flag[2:]}"], help=field.description, **words)
    else:
        annotation = Annotated[annotation, *field.metadata] if field.metadata else annotation
    bounds = " or ".join(filter(None, map(limits, schema.get("anyOf", [schema]))))
    text = f"{field.description}  [{bounds}]" if bounds else field.description
    kind = Setting(annotation, schema, section.model_config)
    return click.Option(names, type=kind, multiple=many, help=text, **words)


def options_of(*sections: type[Section]) -> Iterator[click.Option]:
    """Yield the options of all fields of `sections`, in their order."""
    for section in sections:
        for name in section.model_fields:
            yield option_of(section, name)
