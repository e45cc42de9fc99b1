"""Actor and critic trained on what a world model imagines; ``trainer.py`` puts the parts together."""
