"""The arithmetic of a dream: arrays in, arrays out.

Nothing here reads a file, a clock or a setting. A kernel is compiled by JAX once per padded size, takes every number
it needs as an argument, and draws its randomness from the key it is given. Whatever reaches the journal (weights,
prunes, activations) is built from operations that every device rounds alike; only sums for people to look at may
differ in their last digit between a CPU and a GPU.
"""
