"""Studies: arms of an ablation against one another."""
