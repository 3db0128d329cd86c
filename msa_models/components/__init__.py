"""Ablatable parts of methods, one file each: its fields are the configuration, its method is the equation."""
