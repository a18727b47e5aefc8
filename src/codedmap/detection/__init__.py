"""Which answers to reject."""
