"""Pure rules of safety: redaction, the screen, floods, trust and claims. No clock, no broker."""
