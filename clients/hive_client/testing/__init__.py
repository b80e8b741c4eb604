"""For tests of your own agents: an in-process Hive and a clock that you move. Part of the product, kept like it."""

from hive_client.testing.fake_hive import FakeHive, FakeWire, Seen
from hive_client.testing.faults import Faults
from hive_client.testing.manual_clock import EagerClock, ManualClock

__all__ = ["EagerClock", "FakeHive", "FakeWire", "Faults", "ManualClock", "Seen"]
