"""Looking at restorations: fidelities beside each other, faces made worse on purpose, numbers."""
