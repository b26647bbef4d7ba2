"""Find what a vision encoder cannot see."""

__version__ = "0.1.0"
