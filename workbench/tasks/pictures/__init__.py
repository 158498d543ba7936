"""Pictures that belong to prompts: where one is, what it must be like, and how a model takes it in. No torch here."""
