"""Figures for papers: at column width, as vectors or pixels, in colours that all readers tell apart."""
