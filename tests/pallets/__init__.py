"""Tests of `pallets`."""
