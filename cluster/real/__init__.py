"""The machine a real node runs on: its clock, event loop, threads, disk and sockets."""
