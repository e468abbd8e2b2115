"""The harness itself: clusters, run folder, timeline, judge, report, and the sub-commands of `chaos`."""
