"""The paper's experiments and further baselines; they use only the public names of codedmap."""
