"""CodeFormer and the autoencoder of its stage I."""
