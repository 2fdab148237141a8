"""What tests share: polling with a deadline, processes, builders of events."""
