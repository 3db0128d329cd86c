"""From an experiment to studies and trials: pure functions, no files, neither torch nor ray."""
