"""What is kept: the store, the live graph, and how memories are found again."""
