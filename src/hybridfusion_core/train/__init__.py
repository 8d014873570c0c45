"""Training from scratch and fine-tuning: the loop, recipes, losses."""
