"""Parts of the package behind a socket: environments, and policies."""
