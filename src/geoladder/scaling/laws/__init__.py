"""Laws as formulas with their derivatives, and the losses they are fitted by."""
