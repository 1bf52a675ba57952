"""What is run: models, data and the federated client's step."""
