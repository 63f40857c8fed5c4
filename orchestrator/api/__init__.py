"""The REST interface: parse, call one service or selector, answer."""
