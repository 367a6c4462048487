"""Real QEMUs with a guest that counts, and the judgement of what became of it."""
