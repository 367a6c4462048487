"""What both sides have, and whether a migration is possible. It changes nothing."""
