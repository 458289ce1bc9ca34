"""Request limits: sliding windows, in Redis or in memory."""
