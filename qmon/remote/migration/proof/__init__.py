"""Proof that backing images are equal, overlays empty, and copies whole."""
