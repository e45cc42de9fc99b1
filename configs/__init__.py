"""Training configurations as YAML files. Import as ``v2w_gym.configs``."""
