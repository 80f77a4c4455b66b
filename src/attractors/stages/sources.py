"""What each stage's code is: a hash of its script and of every file that this imports, comments aside."""

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

import click

from attractors.cli import stage as commands
from attractors.cli.group import modules
from attractors.files import atomic

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def imports(path, root):
    """The files below `root` that the Python file `path` imports, anywhere in it, from beside itself or from `root`."""
    files = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            for folder in (root, path.parent):
                if (file := folder / (name.replace(".", "/") + ".py")).is_file():
                    files.append(file)
    return files


def closure(script, root):
    """`script` and all the files below `root` that it needs, in the order of their names."""
    found, queue = set(), [script]
    while queue:
        if (path := queue.pop()) not in found:
            found.add(path)
            queue += imports(path, root)
    return sorted(found)


def substance(source):
    """A Python source without what changes no result: comments, docstrings, empty lines, spaces at ends of lines."""
    lines, quoted = source.splitlines(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    tree = list(ast.walk(ast.parse(source)))
    texts = [n.body[0] for n in tree if isinstance(n, DOCUMENTED) and len(n.body) > 1 and ast.get_docstring(n)]
    for text in texts:
        first, last = text.lineno - 1, text.end_lineno
        if not lines[first][: text.col_offset].strip() and lines[last - 1].endswith(('"', "'")):
            lines[first:last] = [""] * (last - first)
    for node in set(tree) - {text.value for text in texts}:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            quoted.update(range(node.lineno - 1, node.end_lineno - 1))  # not the last line: its end is no string's
    kept = (line if row in quoted else line.rstrip() for row, line in enumerate(lines) if line.strip() or row in quoted)
    return "\n".join(kept)


@commands.stage("sources")
@click.option("--out", type=click.Path(file_okay=False), required=True, help="The folder to write.")
def main(out):
    """Write a file for each stage's script to OUT: hashes of the code that its result depends on.

    Stages depend on these files, so that what is run again after an edit is what the edit can have changed.
    """
    root, out = commands.ROOT / "src", Path(out)
    hashes, scripts = {}, {name: path for name, (_, path) in modules().items() if "commands" not in path.parts}
    for name, script in scripts.items():
        files = closure(script, root)
        for path in files:
            if path not in hashes:
                hashes[path] = hashlib.sha256(substance(path.read_text("utf-8")).encode()).hexdigest()
        with atomic(out / f"{name}.txt") as partial:
            partial.write_text("".join(f"{hashes[path]}  {path.relative_to(root).as_posix()}\n" for path in files))
    click.echo(f"{out}: the code of {len(scripts)} commands")


if __name__ == "__main__":
    main()
