"""What proves that nothing is lost: a store's life in small acts, and faults of every kind in the middle of them."""
