"""The command line, and everything that knows two stages."""
