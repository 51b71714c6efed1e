"""A session of fits: the campaigns of its endpoints, what earlier sessions left, and progress."""
