"""Experiments: their schema, their loading, and the shipped ones; knows neither torch nor ray."""
