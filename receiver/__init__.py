"""runflow-receiver: takes Runflow's evaluation callbacks, keeps each once, forwards one normalised verdict."""

__version__ = "0.1.0"
