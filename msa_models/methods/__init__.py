"""Methods, one file each: `Config` (every hyperparameter of a trial) and `build(config)`; the file name is its name."""
