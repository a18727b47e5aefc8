"""What stands behind the door `sum`: its codes' contract, what runs in a worker, and the door itself."""
