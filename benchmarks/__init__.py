"""Builds timed beside other builders and beside the limit: ``python -m benchmarks --help``.

Every builder is a process tree of its own, reads its base image from the same registry on this
machine and pushes its result there, into a repository that was not there before. The builders
take turns (A B C A B C), the limit is the last of each turn, and medians are compared: the ratios
of one run say something, its seconds say little. Where the work happens (disk or memory) is
chosen with ``--place`` and printed.

    __main__    what was asked for; a failing scenario is reported, and the others still run
    bench       turns: brings a builder to a scenario's start, measures it, then the limit
    scenarios   what is built or started, from which state, and what of it nobody can avoid
    instruments what is measured by other means, for the same tables: link, in_place
    peers       the builders' commands: ours, buildah, podman, and what TOML files describe
    limits      the same work with C tools, one after another: curl, igzip, tar, openssl, find
    measure     what commands cost: seconds, processor, memory, disk
    traffic     what they cost the network and the registry
    bars        what is allowed, and whether a run kept it
    tables      the results in text and in Markdown
    numbers     all of them in a file, and back
    plots       pictures of such a file:     ``plots.draw(results: Path, directory: Path)``
    profiling   where our time goes:         ``profiling.profile(command, env=...) -> str``
    growth, sizes, slow_link, scan, contexts: for one question each

The file of numbers is JSON, ``benchmarks/results/<time>-<place>.json``::

    {
      "commit": "e72973c", "date": "2026-11-22T04:29:37Z", "place": "memory", "runs": 3,
      "python": "3.11.7", "kernel": "6.18.44", "processors": 2,
      "tools": {"gzip": "igzip", "sha256": "openssl", …},
      "scenarios": {
        "large-base": {
          "ours": {"costs": [                     one for each run
            {"seconds": 3.4,                      wall clock
             "cpu": 4.2,                          user and system, of all descendants
             "memory": 73768960,                  bytes: largest sum of proportional set sizes
             "largest": 72568832,                 bytes: largest resident set of one process
             "disk": 848000000,                   bytes written to block devices; 0 in memory
             "network": 283700000,                bytes over the network, both directions
             "requests": 14,                      that the registry answered
             "blobs": 1,                          layers among them that were downloaded
             "pushed": 108}, …]},                 bytes of the new layers
          "buildah": {"costs": […]}
        }, …
      },
      "limits":   {"large-base": [{"curl": 0.15, "igzip -d": 1.35, "tar x": 0.8}, …], …},
      "pipes":    {"large-base": [3.9, …], …},    the same as one pipe, for information
      "commands": {"many-files": [0.7, …], …},    seconds of the RUN's own commands, bare
      "verdicts": [{"scenario": "large-base", "bar": "<= 1.3 x the limit", "measured": 1.5,
                    "allowed": 1.3, "met": false}, …],
      "failures": {"warmed": "what a person has to know"}
    }

The limit of a scenario is the sum of the medians of its parts. Scenarios and builders that did
not run are absent; lists have at least one element.
"""
