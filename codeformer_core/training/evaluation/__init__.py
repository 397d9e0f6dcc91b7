"""How good a network is: metrics over faces, a report to look at, and the paper's ablation."""
