"""One module per system: its application, as its documentation writes one, and how it is sent to and waited for."""
