"""What the README's figures come from: `python -m benchmarks NAME` runs one and writes benchmarks/results/NAME.json."""
