"""The only package that talks to Runflow."""
