"""Print the test files that belong to what has changed, for make check.

A changed test file belongs to itself. A changed module belongs to the tests that name it, as attractors.data.images or
as `from attractors.data import images`. Files that take longer than 20 seconds on two cores are left to make test. What
has changed is what differs from the branch main or, on main itself, from the last commit; new files count.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLOW = ("acceleration", "basin", "benchmarks", "checkpoints", "cuda", "fan_out", "foreign", "hostile",
        "patterns", "pipeline", "platforms", "properties", "report", "report_browser", "reproducible",
        "simulated_cuda", "stable_diffusion", "tutorial", "unet", "yardsticks")


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def changed() -> list[str]:
    """Return the Python files that differ from main, or from the last commit."""
    branch = git("branch", "--show-current")
    known = branch != ["main"] and git("branch", "--list", "main", "--format", "%(refname:short)")
    base = git("merge-base", "main", "HEAD")[0] if known else "HEAD"
    files = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    return sorted({name for name in files if name.endswith(".py")})


def tests_of(names: list[str], tests: dict[str, str]) -> list[str]:
    """Return those of `tests`, {file: text}, that belong to the changed files `names`."""
    words = []
    for name in names:
        *package, module = Path(name).with_suffix("").parts[1:] if name.startswith("src/") else (name,)
        dotted = ".".join([*package, module])
        words.append(rf"\b{re.escape(dotted)}\b|from {re.escape('.'.join(package))} import[^)]*?\b{module}\b")
    pattern = re.compile("|".join(words) or "(?!)")
    return [test for test, text in tests.items() if test in names or pattern.search(text)]


if __name__ == "__main__":
    files = {f"tests/{path.name}": path.read_text("utf-8") for path in sorted((ROOT / "tests").glob("test_*.py"))}
    print(*(test for test in tests_of(changed(), files) if test[len("tests/test_") : -len(".py")] not in SLOW))
