"""The entry points, one file each."""
