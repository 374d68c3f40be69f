"""Secrets that an upstream echoes, replaced by their aliases. Pure."""
