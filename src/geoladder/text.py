"""Text files that people and programs write, UTF-8 whatever the locale: plain, YAML or JSON.

What cannot be read ends in one line that says where. YAML is read strictly, since what it lets pass changes a study
silently: a key given twice, and numbers that are not what they look like (`010` is eight, `1:30` is ninety).
"""

import json
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from geoladder.errors import GeoladderError

LARGEST_BYTES = 64 * 2**20
"""Of a text file; none of a study comes near."""
MOST_NODES = 1_000_000
"""Of a YAML file with its aliases written out."""
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_text(path: Path | str) -> str:
    """Text of a UTF-8 file, without a byte-order mark.

    Raises:
        GeoladderError: there is no such file, it is a folder, a named pipe or too large, it cannot be opened, or it
            is no UTF-8 text: the line of the first wrong byte is named.
    """
    path = Path(path)
    if path.is_dir():
        raise GeoladderError(f"{path} is a folder; name the file in it")
    if path.is_fifo() and path.parts[:2] != ("/", "dev"):  # those of a shell, /dev/fd/63, have a writer
        raise GeoladderError(f"{path} is a named pipe, which may never end; name a file")
    try:
        with path.open("rb") as handle:
            content = handle.read(LARGEST_BYTES + 1)
    except OSError as problem:
        raise GeoladderError(f"{path} cannot be read: {problem.strerror}") from None
    if len(content) > LARGEST_BYTES:
        raise GeoladderError(
            f"{path} is over {LARGEST_BYTES:,} bytes, too large for a text of settings or results"
        )
    return decode(content, path)


def decode(content: bytes, path: Path | str) -> str:
    """The bytes of a file as text, see `read_text`."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise GeoladderError(f"{path} is {encoding} text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line, byte = content.count(b"\n", 0, problem.start) + 1, content[problem.start]
        raise GeoladderError(
            f"{path} is not UTF-8 text: line {line} has the byte 0x{byte:02x} ('{chr(byte)}' in Latin-1); save it as "
            "UTF-8"
        ) from None
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise GeoladderError(
            f"{path} is no text: line {line} has a zero byte, as binary files and UTF-16 have; save it as UTF-8 text"
        )
    return text


class StrictLoader(yaml.SafeLoader):
    """YAML whose keys stand once, whose numbers are what they look like, and which has an end."""

    def get_single_node(self) -> yaml.Node | None:
        """The document; raises ConstructorError with the line where it is not as the class says."""
        node = super().get_single_node()
        if node is not None:
            _check(node, set(), {})
        return node


def _check(node: yaml.Node, parents: set[int], sizes: dict[int, int]) -> int:
    """Check a node and all below it; return their number with aliases written out.

    `parents` are the nodes that contain it, `sizes` the numbers of those checked before, both by id.
    """
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in parents:
        raise _fault(node, "this alias contains itself; write out what it stands for")
    if isinstance(node, yaml.ScalarNode):
        _check_number(node)
    parents.add(id(node))
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    sizes[id(node)] = 1 + sum(_check(child, parents, sizes) for child in children)
    parents.remove(id(node))
    if sizes[id(node)] > MOST_NODES:
        raise _fault(node, f"aliases make this more than {MOST_NODES:,} values; write it out")
    return sizes[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    first: dict[tuple[str, str], yaml.Node] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), key) is not key:
            line = first[key.tag, key.value].start_mark.line + 1
            raise _fault(key, f"the key '{key.value}' was already given in line {line}; keep one of the two")


def _check_number(node: yaml.ScalarNode) -> None:
    digits = node.value.lstrip("+-").replace("_", "")
    is_number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    if is_number and (":" in digits or (digits.isdigit() and digits != "0" and digits.startswith("0"))):
        raise _fault(
            node,
            f"YAML reads {node.value} as another number (base 8 or 60); write it in plain digits, or quoted",
        )


def _fault(node: yaml.Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


def read_yaml(path: Path | str, loader: type[StrictLoader] = StrictLoader) -> Any:  # noqa: ANN401  (whatever it has)
    """Content of a YAML file; None of an empty one.

    Raises:
        GeoladderError: as `read_text`, or it is no YAML, or none that a `StrictLoader` takes: the line is named.
    """
    text = read_text(path)
    try:
        return yaml.load(text, loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        words = "; ".join(filter(None, (problem.context, problem.problem)))
        raise GeoladderError(f"{path} is not valid YAML: {where}{words}") from None
    except ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise GeoladderError(
            f"{path} is not valid YAML: line {line}: the character {ord(text[problem.position]):#x} is not allowed"
        ) from None
    except RecursionError:
        raise GeoladderError(f"{path} is not valid YAML: it is nested too deeply") from None
    except ValueError as problem:  # a date or a number that cannot be
        raise GeoladderError(f"{path} is not valid YAML: {problem}") from None


def read_json(path: Path | str) -> Any:  # noqa: ANN401  (whatever it has)
    """Content of a JSON file; raises GeoladderError as `read_text`, or where it is no JSON."""
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise GeoladderError(f"{path} is no readable JSON: it is nested too deeply") from None
    except ValueError as problem:
        raise GeoladderError(f"{path} is no readable JSON: {problem}") from None


def read_object(path: Path | str) -> dict[str, Any]:
    """The object in a JSON file; raises GeoladderError as `read_json`, or where it holds something else."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise GeoladderError(f"{path} holds {type(content).__name__} where a JSON object is expected")
    return content
