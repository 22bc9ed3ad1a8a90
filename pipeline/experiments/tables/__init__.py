"""The tables of the supplementary material, a file each: their cells, and the paper's figures."""
