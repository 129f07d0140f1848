import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_reference_of_the_study_is_up_to_date():
    spec = importlib.util.spec_from_file_location("describe_study", ROOT / "tools/describe_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/study.md").read_text() == module.describe(), "run python tools/describe_study.py"
