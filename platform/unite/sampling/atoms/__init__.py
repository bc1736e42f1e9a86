"""Files of drawn molecules and crystals."""
