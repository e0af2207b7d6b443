"""The use cases: take in, stage, fetch, deliver; and the loop that drives them."""
