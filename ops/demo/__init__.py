"""The main job: a cluster, four agents, real work on a tree of Python files, and a leader killed in the middle."""
