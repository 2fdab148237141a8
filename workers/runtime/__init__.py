"""What runs the workers: the consumer loop, inbox, failed deliveries, relay. It knows queues and rows, not quotes."""
