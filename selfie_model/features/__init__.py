"""What a trained encoder is good for: features, probes, embeddings, export."""
