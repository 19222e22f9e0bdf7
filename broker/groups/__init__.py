"""Consumer groups and whatever else is remembered by key: state logs on the ordinary data path."""
