"""What passes between the consoles, and the connection that carries it."""
