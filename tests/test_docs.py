"""What is written for people is true: the reference of the study, and every command."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from geoladder.commands import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMENTED = [
    *sorted((ROOT / "studies").rglob("*.yaml")),
    ROOT / "Snakefile",
    *sorted(ROOT.rglob("workflow/rules/*")),
]


def commands(tool):
    """Commands of a tool, as (where, command): in code blocks, in back quotes, and in comments, as they stand."""
    commands = []
    for file in DOCUMENTS:
        text = file.read_text().replace("\\\n", " ")
        blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        commands += [(file, line) for line in re.split(r"\n|&&", blocks)]
        commands += [(file, " ".join(words.split())) for words in re.findall(r"`([^`]+)`", prose)]
    for file in COMMENTED:
        comments = "\n".join(line[1:] for line in file.read_text().splitlines() if line.startswith("#"))
        commands += [(file, line) for line in comments.splitlines()]
        commands += [(file, words) for words in re.findall(r"`([^`]+)`", comments)]
    unique = {" ".join(command.split()): file for file, command in commands}
    return [
        pytest.param(
            shlex.split(command, comments=True),
            id=f"{file.name}: {command.strip()[:70]}",
            marks=[pytest.mark.slow]
            if tool == "snakemake" and file.name != "README.md"
            else [],  # seconds each
        )
        for command, file in unique.items()
        if command.strip().startswith(f"{tool} ") and " ... " not in f"{command} "
    ]


@pytest.mark.parametrize("words", commands("geoladder"))
def test_a_documented_verb_takes_the_options_it_is_shown_with(words):
    """A verb named alone is only looked up; a whole command must parse."""
    tokens = words[1:]
    if len(tokens) == 1 and not tokens[0].startswith("<"):
        assert app[tokens[0]]
    elif not tokens[0].startswith("<"):
        try:
            app.meta.parse_args(tokens, exit_on_error=False, print_error=False)
            command = tokens[2:] if tokens[0] == "--log" else tokens
            app.parse_args(command, exit_on_error=False, print_error=False)
        except CycloptsError as problem:
            # Prose may leave out what a command needs, but may name no option that is not there.
            assert "requires an argument" in str(problem) and "Did you mean" not in str(problem)


def _with_archives(study, folder):
    """The study with its archives, which are terabytes, pretended in `folder`."""
    text = (ROOT / study).read_text().replace("/archives/", f"{folder}/archives/")
    for path in re.findall(r"path: (\S+archives/[^\s,}]+)", text):
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "metadata.parquet").touch()
    (folder / "paper.yaml").write_text(text)
    return str(folder / "paper.yaml")


@pytest.mark.parametrize("words", commands("snakemake"))
def test_a_documented_graph_can_be_built(words, tmp_path):
    options = [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(tmp_path),
        "--dry-run",
        "--quiet",
        "all",
    ]
    if "slurm" in words:  # its profile sits in the project's root, and no cluster is here
        place = words.index("--profile")
        options += ["--default-resources", "slurm_partition=cpu"]
        words = words[:place] + words[place + 2 :]
    if "--cores" not in words:
        options += ["--cores", "1"]
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    if words[-1].endswith("plan.json"):  # of an archive that is fetched
        study["corpora"]["majortom"] = {
            "source": "majortom",
            "like": "majortom",
            "url": "https://example.org/a",
        }
        study["oracle"] = None  # only the synthetic Earth has labels for one
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(study))
    words = [_with_archives(word, tmp_path) if word.endswith("paper.yaml") else word for word in words]
    done = subprocess.run(
        [sys.executable, "-m", *words[:1], *options, *words[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reference_of_the_study_is_up_to_date():
    spec = importlib.util.spec_from_file_location("describe_study", ROOT / "tools/describe_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/study.md").read_text() == module.describe(), "run python tools/describe_study.py"
