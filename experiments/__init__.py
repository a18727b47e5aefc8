"""The paper's experiments, and those it left out, on the public face of codedmap alone."""
