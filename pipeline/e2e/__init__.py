"""Encoder and detector trained together."""
