"""The `etad` command."""
