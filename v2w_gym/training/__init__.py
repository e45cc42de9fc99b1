"""Training stages: from episodes to a world folder."""
