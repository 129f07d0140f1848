"""Write src/geoladder/cost/rung_costs.csv: the costs of all rungs at the usual image sizes.

Run `python tools/count_rungs.py` after a change of the ladder or of a model; a test compares the two.
"""

import csv

from geoladder.cost.profile import rungs
from geoladder.cost.rung_cost import TABLE, RungCost, counted
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

SIZES_PX = (32, 128)

if __name__ == "__main__":
    with atomic_path(TABLE) as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["architecture", "size", "px", *RungCost._fields])
        for architecture, size in rungs():
            for px in SIZES_PX:
                try:
                    writer.writerow([architecture, size, px, *counted(architecture, size, px)])
                except GeoladderError as problem:
                    print(f"{architecture}-{size} at {px} px: {problem}")
