"""Pages of Django's admin, by what they show; `orchestrator.admin` registers them."""
