"""What `manage.py up` does: start every part of Anneal on one machine, keep it up, end it cleanly."""
