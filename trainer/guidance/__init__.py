"""Help given to the policy while it samples."""
