"""What `release` writes is what a clone pulls: no more than the lock names, no less, from a folder or a static host."""

import functools
import http.server
import json
import re
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT
from dvc.cli import main
from dvc.config import NoRemoteError
from dvc.repo import Repo
from ruamel.yaml import YAML
from small_scale import commit, git

from attractors.commands import pull, release

STAGES = {
    "numbers": "python -c \"import pathlib as p; p.Path('numbers').mkdir(exist_ok=True); "
    "[p.Path(f'numbers/{i}').write_text(f'{i}' * 9) for i in (1, 2)]\"",
    "picture": "python -c \"import pathlib as p; p.Path('picture').write_text('a picture')\"",
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout after dvc repro: a folder of two files, and a file that is not to be pushed."""
    root = tmp_path / "made"
    root.mkdir()
    Repo.init(str(root), no_scm=True).close()
    (root / "seed").write_text("1")
    command = f"{sys.executable} {{}}"
    stages = {name: {"cmd": command.format(text.removeprefix("python ")), "deps": ["seed"], "outs": [name]}
              for name, text in STAGES.items()}
    stages["picture"]["outs"] = [{"picture": {"push": False}}]
    with (root / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": stages}, file)
    monkeypatch.setattr(release, "ROOT", root)
    monkeypatch.chdir(root)
    with Repo(str(root)) as repo:
        repo.reproduce()
    return root


def run(*arguments):
    return CliRunner().invoke(release.main, arguments)


def pulled(root, folder, url):
    """A checkout that has only what git would hold, after dvc pull from `url`."""
    folder.mkdir()
    Repo.init(str(folder), no_scm=True).close()
    for name in ("dvc.yaml", "dvc.lock", "seed"):
        (folder / name).write_bytes((root / name).read_bytes())
    with Repo(str(folder), config={"core": {"remote": "r"}, "remote": {"r": {"url": url}}}) as repo:
        repo.pull(allow_missing=True)
    return folder


def test_a_clone_pulls_the_bytes_of_the_lock_from_a_folder_and_from_a_static_host(repository, tmp_path):
    (repository / "plots").mkdir()
    (repository / "plots/report.html").write_text("<p>report")
    result = run("--to", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "3 objects of 1 outputs" in result.output
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    (output,) = manifest["outputs"]
    assert (output["stage"], output["path"], output["files"]) == ("numbers", "numbers", 3)
    assert (tmp_path / "out/index.html").read_text() == "<p>report"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "out")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [str(tmp_path / "out"), f"http://127.0.0.1:{server.server_port}"]
        for number, url in enumerate(urls):
            clone = pulled(repository, tmp_path / f"clone{number}", url)
            numbers = {path.name: path.read_text() for path in (clone / "numbers").iterdir()}
            assert numbers == {"1": "1" * 9, "2": "2" * 9}
            assert not (clone / "picture").exists()
        server.shutdown()


def test_what_the_lock_no_longer_names_is_gone_and_foreign_folders_are_left_alone(repository, tmp_path):
    out = tmp_path / "out"
    assert run("--to", str(out)).exit_code == 0
    before = {path.name for path in (out / "files").rglob("*") if path.is_file()}
    (repository / "dvc.yaml").write_text((repository / "dvc.yaml").read_text().replace("* 9", "* 8"))
    result = run("--to", str(out))
    assert result.exit_code == 1 and "1 stages are not up to date: numbers" in result.output
    assert {path.name for path in (out / "files").rglob("*") if path.is_file()} == before
    with Repo(str(repository)) as repo:
        repo.reproduce()
    assert run("--to", str(out)).exit_code == 0
    after = {path.name for path in (out / "files").rglob("*") if path.is_file()}
    assert len(after) == 3 and not after & before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    result = run("--to", str(tmp_path / "mine"))
    assert result.exit_code == 2 and "other files" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".release")] == []


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()


def test_by_revision_and_by_address_everything_stays_in_the_checkout(tmp_path, monkeypatch):
    """DVC reads .dvc/config of a revision as if the repository lay at /: a relative address would mean /results."""
    shared = (ROOT / ".dvc/config").read_text()
    assert "url" not in shared and "remote" not in shared
    (command,) = re.findall(r"\|\| \$\(BIN\)/dvc (remote add .*)", (ROOT / "Makefile").read_text())
    made, outside = tmp_path / "made", files(Path("/results"))
    made.mkdir()
    monkeypatch.chdir(made)
    git(made, "init", "-q")
    Repo.init(str(made)).close()
    (made / ".dvc/config").write_text(shared)
    (made / "in").write_text("1")
    (made / ".gitignore").write_text("/out\n")
    copy = f"{sys.executable} -c \"import shutil; shutil.copy('in', 'out')\""
    with (made / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": {"out": {"cmd": copy, "deps": ["in"], "outs": ["out"]}}}, file)
    with Repo(str(made)) as repo:
        repo.reproduce()
    commit(made)
    assert main(command.split()) == 0  # as make pull does
    with pytest.raises(NoRemoteError), Repo(str(made)) as repo:  # in one line, and nothing is written
        repo.push(all_branches=True)
    git(made, "checkout", "-q", "-b", "other")
    (made / "in").write_text("2")
    with Repo(str(made), config={"core": {"remote": "results"}}) as repo:  # dvc remote default --local results
        repo.reproduce()
        commit(made)
        assert repo.push(all_branches=True) == 2
    assert len(files(made / "results")) == 2 and files(Path("/results")) == outside
    git(made, "clone", "-q", "--bare", made, tmp_path / "bare.git")
    address = f"file://{tmp_path}/bare.git"
    Repo.get(address, "out", out=str(tmp_path / "got"), rev="other", remote="results",
             remote_config={"url": str(made / "results")})
    assert (tmp_path / "got").read_text() == "2"
    with pytest.raises(FileNotFoundError, match="No storage files available"):
        Repo.get(address, "out", out=str(tmp_path / "none"))
    attributes = git(ROOT, "check-attr", "text", "results/files/md5/00/1")
    assert attributes.strip().endswith("text: unset"), "git must not change line ends of objects"


SCALED = """\
vars: [runs.yaml]
stages:
  model:
    foreach: ${runs}
    do:
      cmd: python -c "import pathlib as p; p.Path('models/${item}').write_text('model ${item}')"
      deps: [seed]
      outs: ["models/${item}"]
  table:
    foreach: ${runs}
    do:
      cmd: >-
        python -c "import pathlib as p; text = p.Path('models/${item}').read_text();
        table = p.Path('table-${item}/one'); table.parent.mkdir(); table.write_text('table of ' + text)"
      deps: ["models/${item}"]
      outs: ["table-${item}"]
  report:
    cmd: python -c "import pathlib as p; p.Path('report').write_text(p.Path('runs.yaml').read_text())"
    deps: [runs.yaml]
    outs: [report]
"""


@pytest.fixture
def scaled(tmp_path, monkeypatch):
    """A checkout of the scale `small`, and a function that makes it another scale and brings it up to date."""
    root = tmp_path / "made"
    (root / "models").mkdir(parents=True)
    Repo.init(str(root), no_scm=True).close()
    (root / "seed").write_text("1")
    (root / "dvc.yaml").write_text(SCALED.replace("python -c", f"{sys.executable} -c"))

    def scale(name):
        (root / "runs.yaml").write_text(f"runs: [{name}]\n")
        with Repo(str(root)) as repo:
            repo.reproduce()

    for module in (release, pull):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.chdir(root)
    scale("small")
    return root, scale


def test_a_release_keeps_what_the_lock_names_of_other_scales_and_each_is_pulled_alone(scaled, tmp_path):
    root, scale = scaled
    out = tmp_path / "out"
    assert "4 objects of 3 outputs" in run("--to", str(out)).output
    scale("large")
    assert "7 objects of 5 outputs" in run("--to", str(out)).output
    clone = tmp_path / "clone"
    (clone / "models").mkdir(parents=True)
    Repo.init(str(clone), no_scm=True).close()
    for name in ("dvc.yaml", "dvc.lock", "runs.yaml", "seed"):
        (clone / name).write_bytes((root / name).read_bytes())
    with Repo(str(clone)) as repo, repo.config.edit("local") as config:
        config["remote"]["results"] = {"url": str(out)}
    assert pull.pulled(clone, "results", models=False) == (2, [], [])
    assert (clone / "table-large/one").read_text() == "table of model large"
    assert not (clone / "models").exists() and not (clone / "table-small").exists()
    (clone / "runs.yaml").write_text("runs: [small]\n")
    assert pull.pulled(clone, "results", models=True)[0] == 3
    assert {path.name for path in (clone / "models").iterdir()} >= {"small"}
    assert (clone / "table-small/one").read_text() == "table of model small"
    with pytest.raises(ValueError, match="nowhere"):
        pull.pulled(clone, "nowhere", models=True)
    result = run("--to", str(out), "--without", "models/*")
    assert "5 objects of 3 outputs" in result.output
    (clone / ".dvc/cache/files").rename(tmp_path / "elsewhere")
    assert pull.pulled(clone, "results", models=True)[:2] == (2, ["models/small"])
    (clone / ".dvc/cache/files").rename(tmp_path / "further")
    (out / "files").rename(tmp_path / "gone")
    with pytest.raises(ValueError, match="lacks all 3 outputs"):
        pull.pulled(clone, "results", models=True)
