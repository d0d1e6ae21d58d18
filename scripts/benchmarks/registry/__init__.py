"""What a node costs the registry, and how soon it knows that one has gone."""
