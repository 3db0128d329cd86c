"""Running an experiment: hand out trials, train them on Ray Tune, prune, and write what is finished."""
