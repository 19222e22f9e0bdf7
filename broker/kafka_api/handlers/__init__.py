"""One file per Kafka API, named by its key: the listing is the compatibility matrix."""
