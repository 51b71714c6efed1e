"""Tests of the likelihood of our own."""
