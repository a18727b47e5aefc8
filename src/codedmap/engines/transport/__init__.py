"""Values, calls and exceptions between processes."""
