"""What is told of the service to those who run it: metrics, logs, traces."""
