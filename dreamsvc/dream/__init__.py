"""Whether and when a space dreams."""
