"""The paper's ablation: which way of finding codes stands how much degradation."""
