"""The main job, shown: two teams of agents spend against budgets at a local provider that keeps its own bill."""
