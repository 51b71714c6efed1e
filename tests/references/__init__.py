"""Tests of `references`."""
