"""What developing Quittance needs and running it does not: the environment, private servers, the demo."""
