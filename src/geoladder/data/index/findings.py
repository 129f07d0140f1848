"""What a sample of an archive's rows says of the numbers in it, question by question.

Unusual: pixels can only deny a DN offset. A dark pixel is no part of a product that carries +1000 DN, but a desert or
a cloud is as bright without it. So products that should carry it are contradicted by dark pixels one by one, and the
others only together, where most of many are bright.
"""

from typing import Literal

import pandas as pd

from geoladder.data.archives.tile_tree import timestamp_of
from geoladder.data.index.evidence import MANY, MOST, Finding, counted
from geoladder.data.index.sample import BRIGHT_DN, Sample
from geoladder.data.labels.bands import BOA_OFFSET_DN, DARKEST_OFFSET_DN, IMPOSSIBLE_OFFSET_DN, boa_offset_dn

Harmonise = Literal["baseline", "pixels", "none"]
BRIGHT_SHARE = 0.01
"""Of a band's pixels above `BRIGHT_DN` that cannot be reflectance, and of a mask's that are of no class."""
ROUNDING = 0.01
"""By which DN of a stored 1 may be off 1."""
NODATA_OFF, CLOUD_OFF_PERCENT, TIME_OFF = 0.1, 30.0, pd.Timedelta(days=1.5)
"""By which metadata may be off pixels and names."""
UNIT_OUT = "Write DN, of which 10000 are a reflectance of 1, or remove the tag where they are DN already"
WAY_OUT = (
    "Say how the corpus is to be taken, as `harmonise` in its block: `pixels` (those of each tile decide), `none` "
    "(nothing is subtracted) or `baseline` (the names are right nevertheless)"
)


def archive_findings(
    rows: pd.DataFrame, sample: Sample, harmonise: Harmonise, stated: bool, units: dict[str, str]
) -> list[Finding]:
    """All findings.

    `rows` is the archive's table, with `units` as its reader says; `stated` is whether the study says of this very
    corpus how it is harmonised, so that contradicting names are no surprise.
    """
    facts = sample.facts
    seen = rows.loc[facts.index]
    offsets = seen["product_id"].map(boa_offset_dn)
    remedy = WAY_OUT if harmonise == "baseline" and not stated else ""
    return [
        *(_offset(facts[offsets == dn], seen, dn, harmonise, remedy) for dn in (BOA_OFFSET_DN, 0)),
        *_tags(facts, seen, offsets, remedy),
        _fill(facts, seen),
        _classes(facts, seen),
        _against(
            "nodata", units.get("nodata", "shares"), seen["nodata_share"], facts["nodata_share"], NODATA_OFF
        ),
        _against("cloud_cover", "percents", seen["cloud_percent"], facts["cloud_percent"], CLOUD_OFF_PERCENT),
        _time(rows, units),
        _crs(facts, seen),
        Finding("format", "by the bytes", {"tag": counted(facts["driver"].tolist())}, 0, 0),
    ]


def _offset(facts: pd.DataFrame, seen: pd.DataFrame, dn: int, harmonise: Harmonise, remedy: str) -> Finding:
    """Whether products that carry the offset by their names, or those that do not, have dark pixels."""
    known = facts[facts["darkest_dn"].notna()]
    dark, bright = known["darkest_dn"] < IMPOSSIBLE_OFFSET_DN, known["darkest_dn"] > DARKEST_OFFSET_DN
    wrong = dark if dn else bright & (len(bright) >= MANY and bright.mean() > MOST)
    age = "04.00 and later" if dn else "before 04.00"
    says = {
        "name": {f"{dn} DN": len(facts)},
        "pixels": {
            f"some below {IMPOSSIBLE_OFFSET_DN} DN, so without offset": int(dark.sum()),
            f"none below {DARKEST_OFFSET_DN} DN": int(bright.sum()),
        },
    }
    if len(known):
        low, middle, high = known["darkest_dn"].quantile([0.1, 0.5, 0.9])
        says["darkest pixels"] = {
            f"{low:.0f}, {middle:.0f}, {high:.0f} DN in 10, 50 and 90 % of rows": len(known)
        }
    taken = {"baseline": f"{dn} DN", "pixels": "by the pixels of each tile", "none": "nothing subtracted"}
    decision = f"{taken[harmonise]}, as the study says" if not remedy else taken[harmonise]
    return Finding(
        f"DN offset of baselines {age}",
        decision,
        says,
        len(known),
        int(wrong.sum()),
        _first(seen, wrong),
        remedy,
    )


def _tags(facts: pd.DataFrame, seen: pd.DataFrame, offsets: pd.Series, remedy: str) -> list[Finding]:
    """Whether tags of scale and offset say what names say; nothing where there are none."""
    tags, units = facts["tag_offset_dn"].dropna(), facts["tag_unit_dn"].dropna().astype(float)
    names = offsets.loc[tags.index]
    wrong = names.notna() & (names != tags)
    says = {"tag": counted([f"{dn:g} DN" for dn in tags]), "name": counted([f"{dn:g} DN" for dn in names])}
    compared = int(names.notna().sum())
    other = (units - 1).abs() > ROUNDING
    unit_says = {"tag": counted([f"{dn:g} DN" for dn in units])}
    findings = [
        Finding(
            "DN offset by tags", "by name", says, compared, int(wrong.sum()), _first(seen, wrong), remedy
        ),
        Finding("a stored 1", "1 DN", unit_says, len(units), int(other.sum()), _first(seen, other), UNIT_OUT),
    ]
    return [finding for finding, by_tag in zip(findings, (tags, units), strict=True) if len(by_tag)]


def _fill(facts: pd.DataFrame, seen: pd.DataFrame) -> Finding:
    """Which numbers stand for no data, and whether some are left that cannot be reflectance."""
    bright = facts["bright_share"] > BRIGHT_SHARE
    says = {
        "tag": counted(facts["nodata_tag"].tolist())
        | {"mask in the file": int(facts["masked"].astype(bool).sum())},
        "pixels": {
            "some filled with another number than 0": int((facts["filled_share"] > 0).sum()),
            f"more than {BRIGHT_SHARE:.0%} above {BRIGHT_DN} DN": int(bright.sum()),
        },
    }
    remedy = (
        "Such numbers are no reflectance but a fill: write it into the nodata tag of the bands, or write 0"
    )
    decision = "0, the nodata tag, masks, and 65535 in bulk"
    return Finding("no data", decision, says, len(facts), int(bright.sum()), _first(seen, bright), remedy)


def _classes(facts: pd.DataFrame, seen: pd.DataFrame) -> Finding:
    """Whether cloud masks hold numbers that are none of their classes, as those of another legend."""
    strange = facts["strange_share"] > BRIGHT_SHARE
    says = {"pixels": {f"more than {BRIGHT_SHARE:.0%} of no class": int(strange.sum())}}
    remedy = "Write the masks anew with these numbers, for clouds of others are not seen"
    decision = "0 clear, 1 thick, 2 thin, 3 shadow, 4 unknown"
    return Finding(
        "cloud mask", decision, says, len(facts), int(strange.sum()), _first(seen, strange), remedy
    )


def _against(question: str, decision: str, stated: pd.Series, pixels: pd.Series, margin: float) -> Finding:
    """Whether numbers of the metadata are those of the pixels, to a margin."""
    known = stated.notna() & pixels.notna()
    wrong = known & ((stated - pixels).abs() > margin)
    says = {
        "metadata": {f"mean {stated[known].mean():.3g}": int(known.sum())},
        "pixels": {f"mean {pixels[known].mean():.3g}": int(known.sum())},
    }
    return Finding(question, decision, says if known.any() else {}, int(known.sum()), int(wrong.sum()))


def _time(rows: pd.DataFrame, units: dict[str, str]) -> Finding:
    """Whether times of the metadata are those in the products' names, of all rows."""
    named = pd.to_datetime(rows["product_id"].map(timestamp_of))
    known = named.notna() & rows["timestamp"].notna()
    wrong = known & ((rows["timestamp"] - named).abs() > TIME_OFF)
    missing = int(rows["timestamp"].isna().sum())
    says = {
        "metadata": {"a time": len(rows) - missing, "none": missing},
        "name": {"a time": int(named.notna().sum())},
    }
    decision = f"of the metadata, as {units['timestamp']}" if units else "as the archive's reader knows it"
    return Finding("time", decision, says, int(known.sum()), int(wrong.sum()), _first(rows, wrong))


def _crs(facts: pd.DataFrame, seen: pd.DataFrame) -> Finding:
    """Whether coordinate systems of the metadata are those of the images, which alone place chips."""
    known = seen["epsg"] > 0
    wrong = known & (seen["epsg"] != facts["epsg"])
    says = {"metadata": counted(seen["epsg"].tolist()), "tag": counted(facts["epsg"].tolist())}
    return Finding(
        "coordinate system",
        "of the image; chips leave out tiles with another",
        says,
        int(known.sum()),
        int(wrong.sum()),
        _first(seen, wrong),
    )


def _first(rows: pd.DataFrame, wrong: pd.Series) -> str:
    """A row that contradicts, by its names."""
    positions = wrong.index[wrong]
    if not len(positions):
        return ""
    return " ".join(map(str, rows.loc[positions[0], ["grid_cell", "product_id"]]))
