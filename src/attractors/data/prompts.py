"""Case studies: files, as in prompts/, of a model and named prompts, each of a candidate type."""

from pathlib import Path

from attractors.distances.detection import TYPES


def prompts_of(content: dict, path: str | Path) -> dict[str, dict]:
    """Return {name: {type, prompt, source}} from the content of a study's file.

    An empty prompt is for a model without text. path is where the content was read from, for messages. Raises
    ValueError naming the file and the entry.
    """
    entries = content.get("prompts")
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"{path}: no prompts; expected prompts: {{name: {{type, prompt, source}}, ...}}")
    if not isinstance(content.get("model"), str):
        raise ValueError(f"{path}: no model, which is an id (owner/name), a folder or a file")
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"type", "prompt", "source"}:
            raise ValueError(f"{path}: prompt {name} must have type, prompt and source, and nothing else")
        if entry["type"] not in TYPES:
            raise ValueError(
                f"{path}: prompt {name} is of type {str(entry['type'])[:80]}; it must be one of {', '.join(TYPES)}"
            )
        if not isinstance(entry["prompt"] or "", str):
            raise ValueError(f"{path}: prompt {name} is {str(entry['prompt'])[:80]}; it must be text, or empty")
    return entries


def prompt_of(content: dict, name: str, path: str | Path) -> dict:
    """Return the entry `name` of a study's file.

    Raises ValueError listing the entries where there is none of this name.
    """
    entries = prompts_of(content, path)
    if name not in entries:
        raise ValueError(f"{path}: no prompt {name}; it has {', '.join(entries)}")
    return entries[name]
