"""Find, download, verify and read pallets."""
