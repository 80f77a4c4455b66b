"""A section of settings: what exists, of which type, in which range, with which default, and what it is for.

A section is a subclass of `Section`. Its fields make the options of the stage that it is named after
(attractors.cli.stage), and check what a sweep's file and params.yaml hold.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from attractors.words import suggestion

KINDS = {"boolean": "true or false", "string": "text", "object": "a mapping", "integer": "whole number",
         "number": "number"}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


class Section(BaseModel):
    """Settings that cannot be changed, of which none is unknown, infinite or beyond 64 bits.

    Types are strict: neither a word nor true is a number. A whole number may be written as 1e5, a tuple as a list.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, list | tuple):
            return tuple(cls._plain(part, info) for part in value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and not -(2**63) < value < 2**63:
            raise ValueError(f"{info.field_name} is {str(value)[:20]}; it must be finite and fit into 64 bits")
        return value


def limits(schema: dict[str, Any]) -> str:
    """Return the bounds in the JSON schema of a number in words: "at least 1 and at most 10", or nothing."""
    return " and ".join(f"{words} {schema[key]:,}" for key, words in LIMITS.items() if key in schema)


def in_words(schema: dict[str, Any], many: bool = False) -> str:
    """Return what the JSON schema of a field admits, as the end of the sentence "it must be ..."."""
    if "anyOf" in schema:
        return " or ".join(in_words(part, many) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}" if "enum" in schema else str(schema["const"])
    if schema["type"] == "array":
        return f"a list of {in_words(schema['items'], True)}"
    kind = KINDS[schema["type"]]
    if schema["type"] in ("integer", "number"):
        kind = f"{kind}s" if many else f"a {kind}"
    return f"{kind} {limits(schema)}".rstrip()


def check(values: object, where: str, *sections: type[Section], partial: bool = False) -> tuple[Section, ...]:
    """Return the sections that hold `values`, each with the settings that are its own.

    values: what was read, a mapping of settings. where: the words that name it, for messages. partial: settings
    without a default may be missing; then nothing is returned.
    Raises ValueError, in one line, for a setting that no section has and for a value that its field does not take.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a mapping of settings; it is {str(values)[:80]}")
    fields = [name for section in sections for name in section.model_fields]
    for name in values:
        if name not in fields:
            raise ValueError(f"{where} has no setting {str(name)[:80]!r}{suggestion(name, fields)}")
    made = []
    for section in sections:
        try:
            made.append(section.model_validate({key: values[key] for key in section.model_fields if key in values}))
        except ValidationError as failure:
            errors = [error for error in failure.errors() if not (partial and error["type"] == "missing")]
            if errors:
                raise ValueError(f"{where}: {_one_line(errors[0], values, section)}") from None
    return () if partial else tuple(made)


def _one_line(error: Any, values: dict[str, Any], section: type[Section]) -> str:
    if error["type"] == "value_error":  # of a validator, which says itself what would be right
        return str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    state = "missing" if error["type"] == "missing" else str(values[name])[:80]
    return f"{name} is {state}; it must be {in_words(section.model_json_schema()['properties'][name])}"
