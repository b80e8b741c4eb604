"""Real nodes behind proxies, a random workload, a nemesis, and a checker of the recorded history."""
