"""The source's side of a migration: it drives the sequence."""
