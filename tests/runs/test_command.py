"""Rules call the command line through one helper, which quotes whatever they hand over."""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import format as snakemake_format

from geoladder.runs.command import command

RULES = sorted((Path(__file__).parents[2] / "workflow/rules").glob("*.smk"))
NASTY = """it's "a" $(touch pwned) `touch pwned`; {x} <y> & | > \\ * ~ $HOME ü\n--flag"""


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1))
def test_every_value_is_one_word_to_the_shell(values):
    log, params = values[0], SimpleNamespace(spec=values[-1], many=values)
    template = command("verb --spec {params.spec} {params.many} --out {values[0]}")
    words = ["geoladder", "--log", log, "verb", "--spec", values[-1], *values, "--out", values[0]]
    assert shlex.split(snakemake_format(template, log=log, params=params, values=values)) == words


def test_the_shell_runs_nothing_of_a_value(tmp_path):
    params = SimpleNamespace(path=NASTY)
    template = command('verb {params.path} --out "$(dirname {params.path})"')
    text = snakemake_format(template, log=NASTY, params=params).replace("geoladder", "printf '%s\\n'", 1)
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert NASTY in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["verb {params.spec:q}", "verb {a!r}", "verb {a + b}", "verb {}"])
def test_a_place_has_no_format_of_its_own(words):
    with pytest.raises(ValueError, match="must be a name alone"):
        command(words)


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_every_rule_uses_the_helper_and_nothing_else(file):
    text = "\n".join(line.partition("#")[0] for line in file.read_text().splitlines())
    assert not re.search(r"^    (run|script|notebook|wrapper|cwl):", text, re.MULTILINE)
    shells = re.findall(r"^    shell:\s*(\S+?)\(", text, re.MULTILINE)
    assert len(shells) == len(re.findall(r"^    shell:", text, re.MULTILINE))
    assert set(shells) <= {"command"}


def calls(text):
    """The calls of `command` in a file of rules, as Python."""
    for start in (match.start() for match in re.finditer(r"\bcommand\(", text)):
        ends = (match.end() for match in re.finditer(r"\)", text[start:]))
        yield next(code for end in ends if parses(code := text[start : start + end]))


def parses(code):
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_commands_hold_no_shell_but_the_folder_of_a_file(file):
    """`{LAUNCH}` apart, whose text is made of numbers."""
    for call in calls(file.read_text()):
        template = eval(call, {"command": command}).removeprefix("{LAUNCH}")
        values = re.compile(r"\{\w[\w.\[\]]*:q\}")
        text = values.sub("", template)
        for _ in range(2):
            text = text.replace('"$(dirname )"', "")
        assert re.fullmatch(r"[\w /=.-]+", text), template
