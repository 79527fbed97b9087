"""The `latent` corpus, where what a model should know is known: regret, beliefs, recovery."""
