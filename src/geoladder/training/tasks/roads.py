"""Share of each pixel under roads."""

from geoladder.training.density import Density

TASK = Density(name="roads", title="Roads", label="roads", by_default=True)
