"""The engine of heed: it runs models x attention methods x tasks and knows no paper and no benchmark by name."""

__version__ = "0.1.0"
