"""Words: what counts as one, and the index that finds memories by them; the memory and the dreamer read by it."""
