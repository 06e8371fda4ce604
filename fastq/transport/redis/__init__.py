"""Redis as a broker: kombu's queues and bindings, and claims of our own."""
