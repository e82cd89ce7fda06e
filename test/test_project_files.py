"""Files for those who cite, install or contribute agree with the code."""

import re
import shlex
import tomllib
from importlib.metadata import PackageNotFoundError, version

import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import glore3d
from models import MODELS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, str]:
    """Package -> version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pinned for name, pinned in pairs}


def test_the_tested_versions_satisfy_the_requirements():
    pinned = constraints()
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name in pinned:
            assert requirement.specifier.contains(pinned[name]), f"{requirement}, constraints.txt has {pinned[name]}"
        elif name != "setuptools":  # pip freeze leaves it out
            assert is_missing(name), f"constraints.txt lacks {name}, which is installed"
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= pinned.keys()


def is_missing(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return True
    return False


def test_the_citation_names_every_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and citation["cff-version"] == "1.2.0"
    assert citation["version"] == glore3d.__version__ and citation["license"] == PROJECT["license"]
    papers = {re.search(r"arXiv (\S+)$", info.paper)[1] for info in MODELS.values()}
    heads = (ROOT / "docs/dense.md").read_text().split("## Heads")[1].split("\n## ")[0]
    papers |= set(re.findall(r"https://arxiv\.org/abs/([\d.]+)", heads))
    assert {reference["doi"] for reference in citation["references"]} == {f"10.48550/arXiv.{paper}" for paper in papers}
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()


def test_the_changelog_begins_with_what_is_new():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1].rstrip(",") == glore3d.__version__


def test_links_of_these_pages_lead_somewhere():
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "docs/sharing.md", "docs/models.md", "docs/dense.md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


def test_the_dockerfile_copies_what_is_there_and_starts_what_it_copies():
    """It is read here, not built."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert steps[0] == ["FROM", f"python:{PROJECT['requires-python'].removeprefix('>=')}-slim"]
    assert {word for word, _ in steps} <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}
    ignored = (ROOT / ".dockerignore").read_text().split()
    for word, rest in steps:
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() and source not in ignored for source in sources)
    assert {".git", ".venv", "data", "runs"} <= set(ignored)
    (run,) = (rest for word, rest in steps if word == "RUN")
    words = shlex.split(run)
    assert words[:2] == ["python", "-c"]
    compile(words[2], "Dockerfile", "exec")
    assert dict(steps)["ENTRYPOINT"] == '["/suite/run_local.sh"]' and (ROOT / "run_local.sh").stat().st_mode & 0o111
