"""Endpoints, thin: what came in is checked, a use case is called, and the answer is written."""
