"""What changed from one run to another, read from their two reports only."""
