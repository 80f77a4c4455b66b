"""The code that a stage's result depends on: the files that its module imports, and a hash of what they compute."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from attractors.files import file_hash

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


@cache
def imports(path: Path, root: Path) -> set[Path]:
    """Return the files below `root` that the Python file `path` imports, from beside itself or from `root`.

    An import inside a function counts too; one for type checkers, under `if TYPE_CHECKING`, is never run and does not.
    Importing a module runs the `__init__.py` of every package around it, so these are among them.
    """
    names, nodes = set(), list[ast.AST](tree(path).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
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


def closure(scripts: Iterable[Path], root: Path) -> list[Path]:
    """Return `scripts` and every file below the folder `root` that they import, directly or through others, by name."""
    known, queue = set(), list(scripts)
    while queue:
        if (path := queue.pop()) not in known:
            known.add(path)
            queue += imports(path, root) if path.suffix == ".py" else ()
    return sorted(known)


def content(node: object) -> object:
    """Return a syntax tree as tuples, without docstrings, comments and layout; equal for code that computes the same.

    The text of `ast.dump` differs between versions of Python, so it is not used; an empty field is left out here.
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
    """Return the sha256 of what the Python file `path` computes, which docstrings, comments and layout do not change.

    Of another file it is the sha256 of its bytes.
    """
    return hashlib.sha256(repr(content(tree(path))).encode()).hexdigest() if path.suffix == ".py" else file_hash(path)


def code_hashes(scripts: Iterable[Path], root: Path) -> dict[str, str]:
    """Return {path below `root`: `code_hash`} of every file that the result of `scripts` depends on, by name."""
    return {path.relative_to(root).as_posix(): code_hash(path) for path in closure(scripts, root)}
