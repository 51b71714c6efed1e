"""A session of fits: the campaigns of its endpoints, earlier results, and progress."""
