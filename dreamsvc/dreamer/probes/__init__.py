"""What a night asks the memory, before and after: what it lost, what it gained, and whether it may stay."""
