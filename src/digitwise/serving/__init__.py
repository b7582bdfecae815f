"""The page with the drawing box, and the service behind it."""
