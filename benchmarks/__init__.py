"""Builds timed beside another builder: ``python -m benchmarks --help``.

Every builder is a process tree of its own, reads its base image from the same registry on this
machine and pushes its result there, into a repository that was not there before. The builders
take turns (A B A B), and medians are compared: the ratios of one run say something, its seconds
say little. Where the work happens (disk or memory) is chosen with ``--place`` and printed.
"""
