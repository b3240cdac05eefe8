"""The statistics of the verdict: paired comparison, power, the one rule."""
