"""What is asked of a trained model: its outputs in one pass, or a text, a token a step."""
