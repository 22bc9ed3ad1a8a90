"""Presets: TOML files that hold differences only."""
