"""Stage-2 submission to the NeurIPS 2019 Disentanglement Challenge (arXiv 2002.12356)."""

__version__ = "0.1.0"
