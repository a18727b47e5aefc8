"""What stands behind the door `CodedMatrix`: its codes' contract, blocks, answers, and the door itself."""
