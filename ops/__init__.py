"""What operators run: the `hive` command line, local clusters, the demonstration, benchmarks."""
