"""What people look at: the display of a run, tables, captions."""
