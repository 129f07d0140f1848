"""Write docs/study.md, the reference of config.yaml, from the types in geoladder.study.

Run `python tools/describe_study.py` after a change there; a test compares the two.
"""

import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from geoladder.study.study import Study

HEAD = """# The study, key by key

Made from `src/geoladder/study/` by `python tools/describe_study.py`. A key that is not here is an error.

A study is YAML in UTF-8, whatever the locale. A key given twice is refused with both lines; so are numbers in
quotes, truth values and infinities where a number is expected, numbers that YAML reads in base 8 or 60 (`010`,
`1:30`), aliases that contain themselves, and templates of Snakemake, which run code. `1e-3` is a number. `snakemake`
and `geoladder cells --study FILE` check the same; but a file given with `--configfile` is first read by Snakemake
itself, whose message comes where it is not UTF-8 at all: `geoladder cells` then names the line.
"""


def type_name(annotation: Any) -> str:  # noqa: ANN401  (annotations have no common type)
    """Readable name of a type annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return getattr(annotation, "__name__", str(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if a is type(None) else type_name(a) for a in arguments)
    if "Literal" in str(origin):
        return " or ".join(f"`{a}`" for a in arguments)
    if "Annotated" in str(origin) or hasattr(annotation, "__metadata__"):
        return type_name(arguments[0])
    return f"{origin.__name__} of {', '.join(type_name(a) for a in arguments)}"


def blocks_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401
    """Study blocks named in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for argument in get_args(annotation) for block in blocks_in(argument)]


def table(block: type[BaseModel], place: str) -> list[str]:
    """Markdown of one block and of the blocks inside it."""
    lines = [f"\n## `{place}`" if place else "\n## Top level", "", (block.__doc__ or "").strip(), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    inner: list[tuple[type[BaseModel], str]] = []
    for key, field in block.model_fields.items():
        nested = blocks_in(field.annotation)
        inner += [(child, f"{place}.{key}" if place else key) for child in nested]
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            shown = "required"
        elif nested:
            shown = "see below" if default is not None else ""
        else:
            shown = f"`{default}`"
        kind = "block" if nested else type_name(field.annotation)
        lines.append(f"| `{key}` | {kind} | {shown} | {field.description or ''} |")
    for child, where in inner:
        lines += table(child, where)
    return lines


def describe() -> str:
    """The whole reference as Markdown."""
    return HEAD + "\n".join(table(Study, "")) + "\n"


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/study.md").write_text(describe())
