"""Reference results: read, write and look them up, compare, and say why a result differs."""
