"""Success detectors: frames in, probability of success out."""
