"""Untrimmed videos drawn by the program itself, whose actions differ by motion alone."""
