"""The same jobs on a Ray cluster: reading an archive, and training many networks."""
