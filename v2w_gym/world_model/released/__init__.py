"""The parts of a released Vid2World checkpoint, each read into a module of its own."""
