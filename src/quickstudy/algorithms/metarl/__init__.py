"""Learning to reinforcement-learn: agents that find out, within one life, which task they are in."""
