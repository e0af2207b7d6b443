"""The rules, pure: no I/O, no await, no clock, no environment. Bytes, values and times come in; values go out."""
