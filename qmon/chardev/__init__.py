"""Character devices: what a monitor's bytes come from and go to. They know neither commands nor monitors."""
