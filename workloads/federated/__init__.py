"""Federated fine-tuning: rounds of client steps over links, and how much of a round is computing."""
