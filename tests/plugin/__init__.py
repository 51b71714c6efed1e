"""Tests of `plugin`."""
