"""Share of each pixel under buildings."""

from geoladder.training.density import Density

TASK = Density(name="buildings", title="Buildings", label="building", by_default=True)
