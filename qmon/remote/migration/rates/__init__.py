"""How fast it goes, whether it ends, and the person's limits and settings."""
