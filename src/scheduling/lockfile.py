"""dvc.lock as text: at the paper's scale its YAML takes DVC longer to write than a figure takes to draw."""

import re

HEAD = "schema: '2.0'\nstages:\n"


def entries(text):
    """{stage: its lines} of a dvc.lock as DVC writes it. Raises ValueError for one of another form."""
    if text and not text.startswith(HEAD):
        raise ValueError("dvc.lock: not as DVC 3 writes it; bring it up to date with: dvc repro")
    body = re.split(r"^(?=\S)", text.removeprefix(HEAD), maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.split(r"^(?=  \S)", body, flags=re.MULTILINE)[1:] if body else []
    return {block.split(":\n", 1)[0].strip(): block for block in blocks}


def joined(blocks):
    """The dvc.lock that holds `blocks` by stage."""
    return HEAD + "".join(blocks.values())


def updated(text, new):
    """The dvc.lock `text` with the blocks `new` in place of those of their stages, or at its end."""
    known = entries(text)
    body = "".join(known.values())
    return HEAD + "".join((known | new).values()) + text.removeprefix(HEAD).removeprefix(body)
