"""What happens to an event before it is stored: redaction, screen, policy; its first state."""
