"""The code that a stage's result depends on: the files that its module imports, and a hash of what they compute."""

import ast
import hashlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file.

    Raises ValueError naming the file and the line where it does not parse.
    """
    try:
        return ast.parse(path.read_bytes())  # bytes: a byte order mark and a declared encoding are read as Python does
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ValueError(f"{path}{f':{line}' * bool(line)}: does not parse ({getattr(error, 'msg', error)})") from None


def imports(path: Path, root: Path) -> set[Path]:
    """The files below `root` that the Python file `path` imports, anywhere in it, from beside itself or from `root`.

    Importing a module runs the `__init__.py` of every package around it, so these are among them.
    """
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(root).parent.parts)
            module = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {path.parent / "__init__.py"}
    for name in names:
        parts = name.split(".")
        for folder in (root, path.parent):
            files |= {folder.joinpath(*parts).with_suffix(".py")}
            files |= {folder.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)}
    return {file for file in files if file.is_file()}


def closure(script: Path, root: Path) -> list[Path]:
    """`script` and every file below the folder `root` that it imports, directly or through others, by name."""
    found, queue = set(), [script]
    while queue:
        if (path := queue.pop()) not in found:
            found.add(path)
            queue += imports(path, root)
    return sorted(found)


def content(node: object) -> object:
    """Return a syntax tree as tuples, without docstrings, comments and layout; equal for code that computes the same.

    `ast.dump` would do, were its text not another one in each version of Python: an empty field is left out here.
    """
    if isinstance(node, list):
        return [content(part) for part in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    return type(node).__name__, [(name, content(value)) for name, value in fields.items() if value not in (None, [])]


@cache
def code_hash(path: Path) -> str:
    """Return the sha256 of what the Python file `path` computes: docstrings, comments and layout change nothing."""
    return hashlib.sha256(repr(content(tree(path))).encode()).hexdigest()


def code_hashes(script: Path, root: Path) -> dict[str, str]:
    """Return {path below `root`: `code_hash`} of every file that `script`'s result depends on, by name."""
    return {path.relative_to(root).as_posix(): code_hash(path) for path in closure(script, root)}
