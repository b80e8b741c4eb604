"""The version of this node; a test keeps it equal to that of the distribution."""

VERSION = "0.1.0"
