"""What ``benchmarks/run.py`` measures: one module per section, each a ``section.Section``."""
