"""What collaborations have published about the hypotheses of a pallet, and whether fits agree."""
