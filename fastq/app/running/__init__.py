"""What happens in a child: from a frame to the function, and from its end to the result and the message's fate."""
