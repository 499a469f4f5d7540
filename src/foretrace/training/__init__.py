"""How a model is trained: the module, its optimizer, the trainer and its callbacks."""
