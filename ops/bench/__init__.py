"""Measurements that anyone can repeat on one machine."""
