import subprocess
import sys

import numpy as np
import pytest

from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.discover import Registry
from geoladder.registry.task import Task

DENSITY = "from geoladder.training.density import Density\nTASK = Density({})\n"
CLASSES = "from geoladder.training.class_map import ClassMap\nTASK = ClassMap({})\n"
NAMES = "name='toy', title='Toy', label='toy', "


@pytest.fixture
def entries(tmp_path, monkeypatch, request):
    """Write the files of a package of tasks, and read it as the package reads its own."""
    package = f"tasks_of_{abs(hash(request.node.name))}"
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, text in files.items():
            (tmp_path / package / f"{name}.py").write_text(text)
        return Registry(package, Task)

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DENSITY.format("name='toy', title='Toy'"), "label"),
        (DENSITY.format("name='to y', title='Toy', label='toy'"), "name is 'to y'; small letters"),
        (DENSITY.format("name='toy', title='', label='toy'"), "title of task 'toy' is empty"),
        (DENSITY.format(NAMES + "error='rmsee'"), "error of task 'toy' is 'rmsee'; .*: mse, rmse, mae"),
        (DENSITY.format(NAMES + "skill=''"), "skill of task 'toy' is ''"),
        (CLASSES.format(NAMES + "codes=(1, 2), classes=('a', 'b')"), "colours"),
        (
            CLASSES.format(NAMES + "codes=(1, 2), classes=('a', 'b'), colours=('#000000',)"),
            "task 'toy' has 2 codes but 1 colours",
        ),
        (
            CLASSES.format(NAMES + "codes=(0, 2), classes=('a', 'b'), colours=('#000000', '#ffffff')"),
            r"codes of task 'toy' are \(0, 2\)",
        ),
        (
            "from geoladder.registry.task import Task\n"
            "class Half(Task):\n    measures = ('rmse',)\n"
            f"TASK = Half({NAMES} error='rmse', error_label='m', skill='rmse')\n",
            "abstract.*read",
        ),
        ("from geoladder.training.density import Densities\n", "Densities"),
        ("", r"it needs `TASK = Task\(\.\.\.\)`"),
    ],
)
def test_a_missing_or_wrong_piece_is_named_with_the_file(entries, text, message):
    tasks = entries(toy=text)
    for _ in range(2):  # the second reader, as in a worker, hears the same
        with pytest.raises(GeoladderError, match=rf"toy\.py defines no (usable )?task: .*{message}"):
            list(tasks)


def test_two_tasks_of_one_name_are_refused(entries):
    tasks = entries(one=DENSITY.format(NAMES), two=DENSITY.format(NAMES))
    for _ in range(2):
        with pytest.raises(GeoladderError, match=r"two\.py and .*one\.py both define the task 'toy'"):
            _ = "toy" in tasks


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(GeoladderError, match="unknown task 'road'; did you mean 'roads'"):
        TASKS["road"]


def test_entries_import_no_torch():
    code = "import sys; from geoladder.registry import TASKS; list(TASKS); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_land_cover_codes_become_classes():
    read = TASKS["landcover"].read
    codes = np.array([[0, 10, 100], [95, 80, 50]])
    np.testing.assert_array_equal(read(codes, 1.0), [[255, 0, 10], [9, 7, 4]])
    np.testing.assert_array_equal(read(np.array([np.nan, 20.0]), 1.0), [255, 1])
    assert read(codes, 1.0).dtype == np.int64
    assert TASKS["landcover"].outputs == 11


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [
        *((0, "uint8"), (255, "uint8"), (255, "int64"), (-1, "int16"), (-9999, "float32"), (127, "int8")),
        *(
            (65535, "uint16"),
            (32767, "int16"),
            (np.nan, "float32"),
            (np.inf, "float64"),
            (-np.inf, "float16"),
        ),
    ],
)
def test_what_marks_no_land_cover(fill, dtype):
    classes = TASKS["landcover"].read(np.array([10, fill, 100], dtype), 1.0)
    np.testing.assert_array_equal(classes, [0, 255, 10])


@pytest.mark.parametrize("code", [5, 266, 10.5])
def test_a_foreign_code_is_refused(code):
    with pytest.raises(
        GeoladderError, match=f"land cover code {code} is of no class; allowed are 0, 255 .*, 100"
    ):
        TASKS["landcover"].read(np.array([10, code]), 1.0)


def test_labels_are_shown_in_their_colours():
    shown = TASKS["landcover"].display(np.array([[0, 10], [100, 20]], np.uint8))
    np.testing.assert_array_equal(shown.pixels, [[np.nan, 0], [10, 1]])
    assert (shown.palette[0], shown.palette[10]) == ("#006400", "#fae6a0")
    assert shown.limits == (-0.5, 10.5)
    assert TASKS["roads"].display(np.array([[0.0, 50.0]])).limits == (0, 50)
    assert TASKS["roads"].display(np.array([[0.0, np.nan]])).limits == (0, 1)
    masked = TASKS["roads"].display(np.array([[0.0, 0.5, 255.0, -1.0]]))
    np.testing.assert_array_equal(masked.pixels, [[0, 0.5, np.nan, np.nan]])
    assert masked.limits == (0, 1)
