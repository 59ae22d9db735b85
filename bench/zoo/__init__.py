"""The zoo: a pretrained encoder, its experts and heads, as Checkpoints."""
