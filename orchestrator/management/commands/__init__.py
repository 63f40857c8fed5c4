"""Management commands: up, node, api_token, login_link."""
