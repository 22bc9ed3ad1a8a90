"""Features in the forms of other projects."""
