"""The planner: facts of machines and runs in, decisions out. No database, no clock, no Django."""
