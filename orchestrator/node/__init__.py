"""A node: joins a server over HTTP, takes orders from its queue, starts hosts. Opens no database."""
