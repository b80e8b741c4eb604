"""Tests over real node processes: killed, stopped, starved of disk, started on what they must refuse."""
