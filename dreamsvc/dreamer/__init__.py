"""Who dreams: the process with the device. Nothing durable lives here."""
