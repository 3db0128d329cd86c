"""The findings: what the files of a storage say. Nothing here writes a trial."""
