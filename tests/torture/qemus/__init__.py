"""Guests of real QEMUs that are moved while consoles, QEMUs and the line between the consoles fail."""
