"""What is true: float64 or eager implementations that tests and A/B suites compare with."""
