"""Episodes, start contexts and the simulator that plays reality."""
