"""Published upper limits of the hypotheses of a pallet, and whether fits agree with them."""
