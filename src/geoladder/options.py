"""Options that verbs share: the type of each and its help, said once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Spec = Annotated[str, Parameter(help="canonical JSON of the node, or of a block of the study")]
Study = Annotated[Path, Parameter(help="YAML of the study")]
Out = Annotated[Path, Parameter(help="file or folder to write")]
Threads = Annotated[int, Parameter(help="of the CPU, for each device")]
Progress = Annotated[bool, Parameter(parse=False)]
"""Whether to draw a progress bar: the command line decides."""

Archive = Annotated[Path, Parameter(help="folder of the archive")]
Bench = Annotated[Path, Parameter(help="folder of PhilEO Bench")]
BenchIndex = Annotated[Path, Parameter(help="parquet written by `bench-index`")]
Index = Annotated[Path, Parameter(help="parquet written by `index`")]
Chips = Annotated[Path, Parameter(help="folder of chips")]
Stats = Annotated[Path, Parameter(help="JSON written by `stats`")]
Split = Annotated[Path, Parameter(help="parquet written by `split`")]

BandNames = Annotated[
    str | None,
    Parameter(help="names of an image's bands in its order, `B02,B03,...` (default: those in the file)"),
]
OffsetDn = Annotated[
    int | None,
    Parameter(help="DN to subtract (default: by tags, processing baseline or pixels; the log says)"),
]

Results = Annotated[Path, Parameter(help="CSV written by `collect`")]
Laws = Annotated[Path, Parameter(help="JSON written by `laws`")]
GateTable = Annotated[Path, Parameter(help="CSV written by `gates`")]
Expected = Annotated[Path, Parameter(help="JSON of the results there must be, and of their fingerprints")]
Ledger = Annotated[Path, Parameter(help="CSV written by `index`")]
Corpus = Annotated[str, Parameter(help="whose nested fractions are the data axis")]
Figure = Annotated[Path, Parameter(help="PDF to write; PNG and CSV go beside it")]
