"""What changed from one run to another, from their two reports alone."""
