"""The data connections between the QEMUs: handed over, or relayed."""
