"""Small random faults in the package, and which of them the tests find."""
