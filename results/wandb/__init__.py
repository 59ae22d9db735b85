"""The mirror on W&B; the only files that import wandb."""
