"""A whole cluster in one process, on simulated time, network and disks, with everything going wrong.

The nodes are the real `cluster.core.Core` with all it is made of; only the five ports of `cluster/ports.py` are
simulated. One heap of events, one seed: a failing seed fails again, event by event.
"""
